"""Layers and the tree that they make: order, whiteouts, links, and entries that lead elsewhere."""

import gzip
import os
import tarfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.oci import layers
from bpfmatrix.oci.layers import ImageFile, ImageFolder, ImageLink, ImageSpecial, merge
from tests.oci.registry import Descriptor, Entry, files_of, layer, special, stored

Layers = Sequence[Sequence[Entry]]


def merged(folder: Path, *parts: Sequence[Entry] | Descriptor, limit: int = 1 << 20) -> ImageFolder:
    """Write layers to files, and read them."""
    paths = stored(folder / "layers", parts)
    (folder / "files").mkdir()
    return merge(paths, folder / "files", lambda _path: True, limit)


def with_attributes(name: str, data: bytes | None, **attributes: object) -> Entry:
    """Make an entry of a file, or of a folder if there is no data."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
    for key, value in attributes.items():
        setattr(info, key, value)
    return (info, data or b"")


def test_later_layers_replace_and_remove(tmp_path: Path) -> None:
    lower: list[Entry] = [("a/one", b"old"), ("a/b/two", b"2"), ("c/three", b"3")]
    whole = {"a/one": b"old", "a/b/two": b"2", "c/three": b"3"}
    new: Entry = ("a/one", b"new")
    cases: list[tuple[list[Entry], dict[str, bytes]]] = [
        ([new], {**whole, "a/one": b"new"}),
        ([("c/.wh.three", b"")], {"a/one": b"old", "a/b/two": b"2"}),
        ([(".wh.c", b""), ("a/.wh.one", b""), new], {"a/one": b"new", "a/b/two": b"2"}),
        # A whiteout only applies to the layers below, wherever it stands in its layer.
        ([new, ("a/.wh.one", b"")], {**whole, "a/one": b"new"}),
        ([("a/b/x", b"x"), ("a/.wh.b", b"")], {"a/one": b"old", "a/b/x": b"x", "c/three": b"3"}),
        ([("a/x/y", b"y"), ("a/.wh..wh..opq", b"")], {"a/x/y": b"y", "c/three": b"3"}),
        ([("a/.wh..wh..opq", b""), ("a/x/y", b"y")], {"a/x/y": b"y", "c/three": b"3"}),
        ([(".wh..wh..opq", b"")], {}),
        # A file in place of a folder takes away what is in it.
        ([("a", b"file")], {"a": b"file", "c/three": b"3"}),
        ([("a/.wh.none", b"")], whole),
    ]
    for number, (upper, right) in enumerate(cases):
        tree = merged(tmp_path / str(number), lower, upper)
        assert files_of(tree) == right, upper


def test_what_an_opaque_folder_hides_is_not_hidden_for_later_layers(tmp_path: Path) -> None:
    layers: Layers = [
        [("a/one", b"1")],
        [("a/.wh..wh..opq", b""), ("a/two", b"2")],
        [("a/one", b"again")],
    ]
    assert files_of(merged(tmp_path, *layers)) == {"a/one": b"again", "a/two": b"2"}


def test_attributes(tmp_path: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00" + b"\x00\xff" * 6
    headers = {"SCHILY.xattr.security.capability": capability.decode(errors="surrogateescape")}
    tree = merged(
        tmp_path,
        [
            with_attributes("./", None, mode=0o751),
            with_attributes("tmp/", None, mode=0o1777, mtime=5),
            with_attributes("bin/su", b"su", mode=0o104755, uid=1, gid=1 << 31),
            with_attributes("bin/ping", b"ping", pax_headers=headers),
            special("bin/link", tarfile.SYMTYPE, "/../../etc/shadow"),
            special("bin/hard", tarfile.LNKTYPE, "bin/su"),
            special("bin/of-link", tarfile.LNKTYPE, "/bin/link"),
            special("fifo", tarfile.FIFOTYPE),
            special("dev/null", tarfile.CHRTYPE),
        ],
        [with_attributes("tmp", None, mode=0o700)],
    )
    assert tree.attributes.mode == 0o751
    assert tree.names["tmp"].attributes.mode == 0o700
    bin = tree.names["bin"]
    assert isinstance(bin, ImageFolder)
    assert (bin.attributes.mode, bin.attributes.uid) == (0o755, 0)
    su = bin.names["su"].attributes
    assert (su.mode, su.uid, su.gid) == (0o4755, 1, 1 << 31)
    assert bin.names["ping"].attributes.xattrs == {"security.capability": capability}
    assert bin.names["hard"] is bin.names["su"]
    assert bin.names["of-link"] is bin.names["link"]
    link = bin.names["link"]
    assert isinstance(link, ImageLink)
    assert link.target == "/../../etc/shadow"
    kinds = [tree.resolve(path) for path in ("fifo", "dev/null")]
    assert [node.kind for node in kinds if isinstance(node, ImageSpecial)] == ["fifo", "device"]


HARMLESS: dict[str, tuple[Layers, dict[str, bytes]]] = {
    "absolute": ([[("/etc/passwd", b"x")]], {"etc/passwd": b"x"}),
    "through a link": (
        [[special("a", tarfile.SYMTYPE, "/etc"), ("a/passwd", b"x")]],
        {"etc/passwd": b"x"},
    ),
    "through a link of an earlier layer": (
        [[special("b/a", tarfile.SYMTYPE, "../../../etc")], [("b/a/passwd", b"x")]],
        {"etc/passwd": b"x"},
    ),
    "through a link to a folder that is there": (
        [
            [special("lib", tarfile.SYMTYPE, "usr/lib"), ("usr/lib/a", b"a")],
            [("lib/b", b"b"), ("lib/.wh.a", b"")],
        ],
        {"usr/lib/b": b"b"},
    ),
    "a folder takes the place of a link": (
        [[special("a", tarfile.SYMTYPE, "/etc")], [special("a", tarfile.DIRTYPE), ("a/b", b"b")]],
        {"a/b": b"b"},
    ),
    "hard link to an absolute path": (
        [[("etc/shadow", b"x"), special("a", tarfile.LNKTYPE, "/etc/shadow")]],
        {"a": b"x", "etc/shadow": b"x"},
    ),
    "hard link through a link": (
        [
            [
                ("etc/shadow", b"x"),
                special("a", tarfile.SYMTYPE, "/etc"),
                special("b", tarfile.LNKTYPE, "a/shadow"),
            ]
        ],
        {"b": b"x", "etc/shadow": b"x"},
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_where_entries_lead_is_in_the_image(tmp_path: Path, name: str) -> None:
    layers, right = HARMLESS[name]
    tree = merged(tmp_path, *layers)
    assert files_of(tree) == right
    everything = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert everything == {"layers", "files"}
    assert all(path.name.isdecimal() for path in (tmp_path / "files").iterdir())


REFUSED: dict[str, tuple[Layers, str]] = {
    "dots": ([[("../../etc/passwd", b"")]], r"\.\./\.\./etc/passwd leads out of the image"),
    "dots within": ([[("boot/../../x", b"")]], r"boot/\.\./\.\./x leads out of the image"),
    "hard link out": (
        [[special("a", tarfile.LNKTYPE, "../../etc/shadow")]],
        r"a leads out of the image, to \.\./\.\./etc/shadow",
    ),
    "hard link to a file of the host": (
        [[special("a", tarfile.LNKTYPE, "/etc/passwd")]],
        "a is a hard link to /etc/passwd, which is not a file of the image",
    ),
    "hard link through a link to the host": (
        [[special("a", tarfile.SYMTYPE, "/etc"), special("b", tarfile.LNKTYPE, "a/passwd")]],
        "b is a hard link to a/passwd, which is not a file of the image",
    ),
    "hard link to a folder": (
        [[("a/b", b""), special("c", tarfile.LNKTYPE, "a")]],
        "c is a hard link to a, which is not a file of the image",
    ),
    "hard link to nothing": (
        [[special("c", tarfile.LNKTYPE, "/")]],
        "c is a hard link to /, which is not a file of the image",
    ),
    "deep": ([[("a/" * 3000 + "x", b"")]], "has a path that no file system"),
    "a long name": ([[("\u00e9" * 128, b"")]], "has a path that no file system"),
    "terminal": ([[("../\x1b[31m\udcff", b"")]], r"\.\./\ufffd leads out"),
    "below a file": ([[("a", b""), ("a/b", b"")]], "a/b lies below a, which is not a folder"),
    "below a link to a file": (
        [[("a", b""), special("l", tarfile.SYMTYPE, "a"), ("l/b", b"")]],
        "l/b lies below a, which is not a folder",
    ),
    "below a link to itself": (
        [[special("l", tarfile.SYMTYPE, "l"), ("l/b", b"")]],
        "l/b lies below l, which is not a folder",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_layers_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    layers, sentence = REFUSED[name]
    with pytest.raises(BpfmatrixError, match=f"the image is refused: its entry .*{sentence}"):
        merged(tmp_path, *layers)
    assert {path.name for path in tmp_path.iterdir()} == {"layers", "files"}


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    tree = merged(tmp_path, [("caf\udce9", b"x")])
    assert [os.fsencode(name) for name in tree.names] == [b"caf\xe9"]


def test_paths_are_followed_within_the_image(tmp_path: Path) -> None:
    tree = merged(
        tmp_path,
        [
            ("usr/bin/sh", b"sh"),
            special("bin", tarfile.SYMTYPE, "/usr/bin"),
            special("usr/bin/up", tarfile.SYMTYPE, "../../../../bin/sh"),
            special("loop", tarfile.SYMTYPE, "loop"),
        ],
    )
    for path in ("usr/bin/sh", "/bin/sh", "bin/up", "//bin/./../bin//sh"):
        found = tree.resolve(path)
        assert isinstance(found, ImageFile), path
        assert found.content is not None
        assert found.content.read_bytes() == b"sh"
    for path in ("bin/none", "bin/sh/x", "loop", "loop/x"):
        assert tree.resolve(path) is None


@pytest.mark.parametrize("packed", ["gzip", "zstd", "plain"])
def test_a_truncated_layer(tmp_path: Path, packed: str) -> None:
    whole = layer([("boot/vmlinuz", bytes(range(256)) * 4096)], packed)
    cut = Descriptor(whole.media_type, whole.data[: len(whole.data) // 2])
    with pytest.raises(BpfmatrixError, match="layer 2 of 2 can't be unpacked"):
        merged(tmp_path, [], cut)


def test_damaged_and_endless_layers(tmp_path: Path) -> None:
    with pytest.raises(BpfmatrixError, match="layer 1 of 1 can't be unpacked"):
        merged(tmp_path / "1", Descriptor("", b"\x1f\x8b\x08" + b"x" * 600))
    with pytest.raises(BpfmatrixError, match="are larger than"):
        merged(tmp_path / "2", [("a", b"x" * 600)], [("a", b"x" * 600)], limit=1000)


def bare(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> bytes:
    """Make the header of an entry, without its content."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


WHOLE = 32 << 20
SPARSE = tarfile.TarInfo("x")
SPARSE.size = WHOLE
SPARSE.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
BOMBS = {
    "pax": bare("x", tarfile.XHDTYPE, WHOLE) + b"9" * WHOLE,
    "global pax": bare("x", tarfile.XGLTYPE, WHOLE) + b"9" * WHOLE,
    "long name": bare("x", tarfile.GNUTYPE_LONGNAME, WHOLE) + b"a" * WHOLE,
    "sparse": SPARSE.tobuf(tarfile.PAX_FORMAT)
    + f"{WHOLE:0511}\n".encode()
    + (b"0" * 511 + b"\n") * (WHOLE // 512),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_layer_does_not_fill_the_memory(tmp_path: Path, name: str) -> None:
    packed = Descriptor("", gzip.compress(bare("a") + BOMBS[name], 1))
    tracemalloc.start()
    try:
        with pytest.raises(BpfmatrixError, match="a layer has a header of more than 1 MiB"):
            merged(tmp_path, packed)
        assert tracemalloc.get_traced_memory()[1] < WHOLE // 2
    finally:
        tracemalloc.stop()


def test_headers_that_belong_to_each_other_without_end(tmp_path: Path) -> None:
    with pytest.raises(BpfmatrixError, match="layer 1 of 1 can't be unpacked"):
        merged(tmp_path, Descriptor("", bare("x", tarfile.XHDTYPE) * 1500))


def test_too_much_to_pass_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_UNPACKED_BYTES", 1 << 20)
    zeros = Descriptor("", gzip.compress(bare("a", size=2 << 20) + bytes(2 << 20), 1))
    (tmp_path / "files").mkdir()
    paths = stored(tmp_path / "layers", [zeros])
    with pytest.raises(BpfmatrixError, match="a layer has more than"):
        merge(paths, tmp_path / "files", lambda _path: False, 1 << 20)


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "_TREE_BYTES", 10 << 10)
    files: list[Entry] = [(str(number), b"") for number in range(10)]
    merged(tmp_path / "1", files)
    with pytest.raises(BpfmatrixError, match="too many files"):
        merged(tmp_path / "2", files, [("more", b"")])

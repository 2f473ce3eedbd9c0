"""Layers and what is in them: order, whiteouts, and entries that try to write elsewhere."""

import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.kernels.oci import layers as library
from bpfmatrix.kernels.oci.layers import ImageFolder, find_kernel, merge
from tests.kernels.registry import Descriptor, Entry, layer, special

MODULE = "lib/modules/6.1.0/kernel/a.ko"


def merged(folder: Path, *parts: Sequence[Entry] | Descriptor) -> ImageFolder:
    """Write layers to files, and read them."""
    for name in ("layers", "files"):
        (folder / name).mkdir(parents=True)
    paths = []
    for number, part in enumerate(parts):
        path = folder / "layers" / str(number)
        path.write_bytes((part if isinstance(part, Descriptor) else layer(part)).data)
        paths.append(path)
    return merge(paths, folder / "files")


def files(tree: ImageFolder) -> dict[str, bytes]:
    return {name: path.read_bytes() for name, path in tree.files()}


@pytest.mark.parametrize("packed", ["gzip", "zstd", "plain"])
def test_only_a_kernels_parts_are_taken(tmp_path: Path, packed: str) -> None:
    entries: list[Entry] = [
        ("./boot/vmlinuz", b"kernel"),
        ("boot/config-6.1.0", b"config"),
        (MODULE, b"module"),
        ("usr/lib/modules/6.1.0/b.ko", b"other"),
        ("data/kernels/6.1/boot/vmlinuz-6.1.0", b"lvh"),
        ("etc/passwd", b"root"),
        ("boot/grub/grub.cfg", b"grub"),
        special("boot/vmlinuz-device", tarfile.CHRTYPE),
    ]
    found = files(merged(tmp_path, layer(entries, packed)))
    assert found == {
        "boot/vmlinuz": b"kernel",
        "boot/config-6.1.0": b"config",
        MODULE: b"module",
        "usr/lib/modules/6.1.0/b.ko": b"other",
        "data/kernels/6.1/boot/vmlinuz-6.1.0": b"lvh",
    }
    assert len(list((tmp_path / "files").iterdir())) == 5


def test_later_layers_replace_and_remove(tmp_path: Path) -> None:
    lower: list[Entry] = [("boot/vmlinuz", b"old"), (MODULE, b"a"), ("lib/modules/5.4/b.ko", b"b")]
    zero = merged(tmp_path / "0", lower, [("boot/vmlinuz", b"new")])
    assert files(zero)["boot/vmlinuz"] == b"new"
    one = merged(tmp_path / "1", lower, [("lib/modules/.wh.5.4", b"")])
    assert set(files(one)) == {"boot/vmlinuz", MODULE}
    # An opaque folder hides what is below it in the image, whatever stands first in the layer.
    for number, entries in enumerate(
        (
            [("lib/modules/6.2/c.ko", b"c"), ("lib/modules/.wh..wh..opq", b"")],
            [("lib/modules/.wh..wh..opq", b""), ("lib/modules/6.2/c.ko", b"c")],
        ),
        start=2,
    ):
        two = merged(tmp_path / str(number), lower, entries)
        assert set(files(two)) == {"boot/vmlinuz", "lib/modules/6.2/c.ko"}
    three = merged(tmp_path / "4", lower, [("boot/.wh.vmlinuz", b""), ("boot/vmlinuz", b"new")])
    assert files(three)["boot/vmlinuz"] == b"new"
    # A file in place of a folder takes what is in it away, and so does one that is not taken.
    four = merged(tmp_path / "5", lower, [("lib", b"no folder")])
    assert set(files(four)) == {"boot/vmlinuz"}


EVIL: dict[str, tuple[list[list[Entry]], str]] = {
    "dots": ([[("../../etc/passwd", b"")]], r"\.\./\.\./etc/passwd leads out of the image"),
    "dots within": ([[("boot/../../x", b"")]], r"boot/\.\./\.\./x leads out of the image"),
    "absolute": ([[("/boot/vmlinuz", b"")]], "/boot/vmlinuz has an absolute path"),
    "through a link": (
        [[special("boot", tarfile.SYMTYPE, "/etc"), ("boot/vmlinuz", b"")]],
        "boot/vmlinuz is written through the link boot -> /etc",
    ),
    "through a link of an earlier layer": (
        [[special("boot", tarfile.SYMTYPE, "../../etc")], [("boot/vmlinuz", b"")]],
        r"boot/vmlinuz is written through the link boot -> \.\./\.\./etc",
    ),
    "through a link, something that is not taken": (
        [[special("x", tarfile.SYMTYPE, "/root")], [("x/.ssh/authorized_keys", b"")]],
        "x/.ssh is written through the link x -> /root",
    ),
    "hard link to an absolute path": (
        [[special("boot/vmlinuz", tarfile.LNKTYPE, "/etc/shadow")]],
        "boot/vmlinuz leads to /etc/shadow",
    ),
    "hard link out": (
        [[special("boot/vmlinuz", tarfile.LNKTYPE, "../../etc/shadow")]],
        r"boot/vmlinuz leads out of the image, to \.\./\.\./etc/shadow",
    ),
    "hard link through a link": (
        [
            [
                special("a", tarfile.SYMTYPE, "/etc"),
                special("boot/vmlinuz", tarfile.LNKTYPE, "a/shadow"),
            ]
        ],
        "boot/vmlinuz is a hard link to a/shadow, which is not a file of the image",
    ),
    "hard link to a link": (
        [
            [
                special("a", tarfile.SYMTYPE, "/etc/shadow"),
                special("boot/vmlinuz", tarfile.LNKTYPE, "a"),
            ]
        ],
        "boot/vmlinuz is a hard link to a, which is not a file of the image",
    ),
    "deep": ([[("a/" * 3000 + "x", b"")]], "has a path that no file system"),
    "terminal": ([[("../\x1b[31m\udcff", b"")]], r"\.\./\ufffd leads out"),
    "below a file": (
        [[("boot", b""), ("boot/vmlinuz", b"")]],
        "lies below boot, which is not a folder",
    ),
}


@pytest.mark.parametrize("name", EVIL)
def test_layers_that_write_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    layers, sentence = EVIL[name]
    with pytest.raises(BpfmatrixError, match=f"the image is refused: its entry .*{sentence}"):
        merged(tmp_path, *layers)
    assert {path.name for path in tmp_path.iterdir()} == {"layers", "files"}


def test_links_within_the_image(tmp_path: Path) -> None:
    tree = merged(
        tmp_path / "0",
        [
            ("boot/vmlinuz-6.1.0", b"kernel"),
            special("boot/vmlinuz", tarfile.SYMTYPE, "vmlinuz-6.1.0"),
            special("lib", tarfile.SYMTYPE, "usr/lib"),
            ("usr/lib/modules/6.1.0/a.ko", b"a"),
            special("usr/lib/modules/6.1.0/b.ko", tarfile.LNKTYPE, "usr/lib/modules/6.1.0/a.ko"),
        ],
    )
    kernel = find_kernel(tree, "6.1")
    assert kernel.vmlinuz.read_bytes() == b"kernel"
    assert {name: path.read_bytes() for name, path in kernel.modules("6.1.0").items()} == {
        "a.ko": b"a",
        "b.ko": b"a",
    }
    # A folder of a later layer takes the place of a link.
    tree = merged(
        tmp_path / "1",
        [special("boot", tarfile.SYMTYPE, "/etc")],
        [special("boot", tarfile.DIRTYPE), ("boot/vmlinuz", b"kernel")],
    )
    assert find_kernel(tree, "6.1").vmlinuz.read_bytes() == b"kernel"


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../etc/passwd", "vmlinuz", "x/y"])
def test_a_link_that_leads_nowhere_is_no_kernel(tmp_path: Path, target: str) -> None:
    tree = merged(tmp_path, [special("boot/vmlinuz", tarfile.SYMTYPE, target)])
    with pytest.raises(KernelUnavailableError, match="there is no kernel in the image"):
        find_kernel(tree, "6.1")


def test_which_kernel(tmp_path: Path) -> None:
    both: list[Entry] = [("boot/vmlinux", b"with symbols"), ("boot/vmlinuz", b"kernel")]
    assert find_kernel(merged(tmp_path / "1", both), "x").name == "boot/vmlinuz"
    bare: list[Entry] = [("boot/vmlinux", b"ELF")]
    assert find_kernel(merged(tmp_path / "2", bare), "x").name == "boot/vmlinux"
    lvh: list[Entry] = [
        ("data/kernels/6.6/boot/vmlinuz-6.6.1", b"6.6"),
        ("data/kernels/6.6/boot/config-6.6.1", b"C"),
        ("data/kernels/6.6/lib/modules/6.6.1/a.ko", b"a"),
    ]
    kernel = find_kernel(merged(tmp_path / "3", lvh), "6.6")
    assert kernel.config is not None
    assert kernel.config.read_bytes() == b"C"
    assert list(kernel.modules("6.6.1")) == ["a.ko"]
    assert kernel.modules("6.6.2") == {}
    more = merged(tmp_path / "4", lvh, [("data/kernels/6.1/boot/vmlinuz-6.1.9", b"6.1")])
    assert find_kernel(more, "6.1").vmlinuz.read_bytes() == b"6.1"
    with pytest.raises(KernelUnavailableError, match=r"several kernels .*6\.1\.9, data.*6\.6\.1"):
        find_kernel(more, "5.4")


@pytest.mark.parametrize("packed", ["gzip", "zstd", "plain"])
def test_a_truncated_layer(tmp_path: Path, packed: str) -> None:
    whole = layer([("boot/vmlinuz", bytes(range(256)) * 4096)], packed)
    cut = Descriptor(whole.media_type, whole.data[: len(whole.data) // 2])
    with pytest.raises(BpfmatrixError, match="layer 2 of 2 can't be unpacked"):
        merged(tmp_path, [], cut)


def test_damaged_and_endless_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BpfmatrixError, match="layer 1 of 1 can't be unpacked"):
        merged(tmp_path / "1", Descriptor("", b"\x1f\x8b\x08" + b"x" * 600))
    monkeypatch.setattr(library, "LIMIT_BYTES", 1000)
    with pytest.raises(BpfmatrixError, match="are larger than"):
        merged(tmp_path / "2", [("boot/vmlinuz", b"x" * 600)], [("boot/vmlinuz", b"x" * 600)])

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
import zstandard

from bpfmatrix.errors import UsageError
from bpfmatrix.oci import packing

LONG = f"lib/modules/6.1/{'a' * 120}/{'b' * 120}.ko"


def tree(folder: Path, names: list[str], mtime: int, mode: int) -> packing.Content:
    content: dict[str, Path | bytes] = {}
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(mode)
        os.utime(path, (mtime, mtime))
        content[name] = path
    return content


def test_a_layer_is_the_same_to_the_byte(tmp_path: Path) -> None:
    names = ["lib/b", "boot/vmlinuz", LONG]
    one = tree(tmp_path / "one", names, 1_000_000_000, 0o600)
    other = tree(tmp_path / "other", names[::-1], 1_500_000_000, 0o755)
    first = packing.pack(one, tmp_path / "1")
    assert packing.pack(other, tmp_path / "2") == first
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert packing.diff_id(one) == packing.diff_id(other)
    (tmp_path / "other" / "lib/b").write_text("changed")
    assert packing.pack(other, tmp_path / "3").digest != first.digest
    assert packing.diff_id(one) != packing.diff_id(other)


def test_what_is_in_a_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    files = tree(tmp_path / "tree", [LONG, "boot/vmlinuz"], 7, 0o600)
    content: packing.Content = {**files, "boot/config": b"y"}
    heard: list[int] = []
    layer = packing.pack(content, tmp_path / "layer", heard.append)
    data = (tmp_path / "layer").read_bytes()
    assert (layer.digest, layer.size_bytes) == (
        f"sha256:{hashlib.sha256(data).hexdigest()}",
        len(data),
    )
    plain = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    assert packing.diff_id(content) == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        entries = archive.getmembers()
        assert [entry.name for entry in entries if entry.isfile()] == [
            "boot/config",
            "boot/vmlinuz",
            LONG,
        ]
        assert {(e.uid, e.gid, e.uname, e.mtime) for e in entries} == {(0, 0, "", 1700000000)}
        assert {e.mode for e in entries if e.isfile()} == {0o644}
        assert [e.name for e in entries if e.isdir()][:2] == ["boot", "lib"]
        file = archive.extractfile(LONG)
        assert file is not None
        assert file.read().decode() == LONG
    assert heard[-1] == len(LONG) + len("boot/vmlinuz") + 1


def test_a_time_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is 'today'"):
        packing.diff_id({"a": b""})

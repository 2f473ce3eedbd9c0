"""Core files, written part by part as the guest sends them."""

from pathlib import Path

from bpfmatrix.suite.core_files import CoreFiles
from bpfmatrix.vm.protocol import CorePart


def test_blocks_of_zeros_become_holes(tmp_path: Path) -> None:
    files, block = CoreFiles(tmp_path), 1 << 16
    parts = [b"x" * block, bytes(block), bytes(block), b"y" * 10, bytes(block)]
    for number, data in enumerate(parts):
        files.feed(CorePart(7, 11, "a/../b c", data, last=number == len(parts) - 1))
    [path] = files.found
    assert path == tmp_path / "a_.._b_c.7.core"
    assert path.read_bytes() == b"".join(parts)
    assert path.stat().st_blocks * 512 < 3 * block


def test_a_core_file_that_is_cut_off_is_kept(tmp_path: Path) -> None:
    files = CoreFiles(tmp_path)
    files.feed(CorePart(7, 11, "sh", b"begin"))
    files.feed(CorePart(7, 11, "sh", bytes(1000)))
    files.close()
    assert files.found[0].read_bytes() == b"begin" + bytes(1000)


def test_a_core_file_that_can_not_be_written_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    files = CoreFiles(folder)
    files.feed(CorePart(7, 11, "sh", b"begin", last=True))
    folder.mkdir()
    files.feed(CorePart(8, 6, "sh", b"", last=True))
    assert files.found == [folder / "sh.8.core"]

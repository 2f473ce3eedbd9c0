"""Files that a user names: written as a whole, and never put in the place of a device."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bpfmatrix.host.whole_file import check_writable, write_whole


def test_a_file_and_its_folder_are_made(tmp_path: Path) -> None:
    write_whole(tmp_path / "a/b", b"one")
    write_whole(tmp_path / "a/b", b"two")
    assert (tmp_path / "a/b").read_bytes() == b"two"
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a/b"]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_whole(pipe, b"text")
        assert reader.communicate()[0] == b"text"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_a_link_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    write_whole(tmp_path / "link", b"text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"text"


def test_standard_output_by_its_name_is_the_pipe() -> None:
    code = (
        "from pathlib import Path; from bpfmatrix.host.whole_file import write_whole;"
        "write_whole(Path('/proc/self/fd/1'), b'text')"
    )
    assert subprocess.check_output([sys.executable, "-c", code]) == b"text"


def test_a_file_that_can_not_be_written_stays_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_whole(path, b"x" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_folder_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IsADirectoryError):
        write_whole(Path(name), b"text")
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_written_is_known_before(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"old")
    link.symlink_to("none")
    for path in (file, link, tmp_path / "new/a/b", Path("/dev/null")):
        check_writable(path)
    assert sorted(tmp_path.iterdir()) == [file, link]
    assert file.read_bytes() == b"old"
    for path in (tmp_path, file / "a", Path("/proc/none/a")):
        with pytest.raises(OSError, match=r"directory") as caught:
            check_writable(path)
        assert caught.value.filename == str(path)

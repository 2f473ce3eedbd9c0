"""Faults of the host, as the kernel really gives them: the sentence for each, and mistakes."""

import errno
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.errors import HostError, PayloadError
from bpfmatrix.host.faults import as_errors, explained, naming


def said(action: Callable[[], object]) -> str:
    """Return the sentence for what an action raises; the exception itself if it is a mistake."""
    with pytest.raises(HostError) as caught, as_errors():
        action()
    assert "\n" not in caught.value.what
    return caught.value.what


def test_a_full_disk_is_named() -> None:
    def fill() -> None:
        with Path("/dev/full").open("wb", buffering=0) as file, naming(Path("/x/a.log")):
            file.write(b"x")

    assert said(fill) == "/x/a.log can't be written: No space left on device"


def test_a_full_disk_of_an_unknown_file_says_so() -> None:
    error = explained(OSError(errno.ENOSPC, "No space left on device"))
    assert error is not None
    assert error.what.startswith("a file")
    assert error.what.endswith("can't be written: No space left on device")


def test_a_name_that_is_too_long_is_cut(tmp_path: Path) -> None:
    what = said((tmp_path / ("a" * 300)).touch)
    assert what.endswith("... is longer than a file system allows")
    assert len(what) < 250


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert said((tmp_path / "a/b").touch) == f"{tmp_path}/a/b is in the way: Not a directory"
    assert said((tmp_path / "a").mkdir) == f"{tmp_path}/a is in the way: File exists"
    assert said(tmp_path.read_bytes) == f"{tmp_path} is in the way: Is a directory"


def test_a_limit_on_open_files_is_named() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        what = said(lambda: os.open("/dev/null", os.O_RDONLY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    # The limit is that of the time at which the sentence is made.
    assert "this process may not have more than" in what


def test_a_limit_on_the_sizes_of_files_is_named(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        what = said(lambda: (tmp_path / "a").write_bytes(bytes(20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert what == "a file would be larger than this user's files may be (10 bytes)"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("echo why >&2; exit 3", "sh failed: why"),
        ("exit 3", "sh failed: it exited with 3 and gave no reason"),
        ("kill -XFSZ $$", "sh failed: a file would be larger than this user's files may be"),
        ("kill -TERM $$", "sh failed: signal 15 ended it (Terminated)"),
    ],
)
def test_a_tool_that_failed_is_named(line: str, what: str) -> None:
    def call() -> None:
        subprocess.run(["sh", "-c", line], check=True, capture_output=True)

    assert said(call).startswith(what)


@pytest.mark.parametrize(
    "mistake",
    [ZeroDivisionError(), KeyError("a"), FileNotFoundError(2, "no", "x"), OSError("?"), EOFError()],
)
def test_a_mistake_keeps_its_traceback(mistake: Exception) -> None:
    assert explained(mistake) is None
    with pytest.raises(type(mistake)) as caught, as_errors():
        raise mistake
    assert caught.value is mistake


def test_an_error_that_is_explained_already_stays() -> None:
    error = PayloadError("a", "b")
    assert explained(error) is error

"""`invoke logs`: the console, or the output of a test executable, of a kernel's last run.

Followed, it is printed as it grows, until the run ends: its result is then there as a file.
"""

import os
import time
from pathlib import Path
from typing import BinaryIO

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError, suggestion

__all__ = ["show"]

_CONSOLE = "console"
_POLL_SECONDS = 0.05
_CHUNK_BYTES = 1 << 16


def show(project: Project, id: str, test: str, output: BinaryIO, *, follow: bool = False) -> None:
    """Write a log to `output`: the kernel's console, or the log of the executable `test`.

    Followed, one that is not there yet is waited for while the run goes on. UsageError for an
    unknown kernel, or a test that the last run did not have; BpfmatrixError where there was no run.
    """
    project.config.kernel(id)
    folder, name = project.results / id, f"{test or _CONSOLE}.log"
    result = project.results / f"{id}.json"
    if not (folder.is_dir() or result.exists()):
        raise BpfmatrixError(f"{id} was not run here yet", f"Type: invoke run --kernel {id}")
    # A result is removed when the next run begins, and there again when that ends.
    if not follow or result.exists():
        with _opened(folder, name) as file:
            _copy(file, output)
    else:
        _follow(folder, name, result, output)


def _follow(folder: Path, name: str, result: Path, output: BinaryIO) -> None:
    log: BinaryIO | None = None
    ended = False
    while not ended:
        ended = result.exists()
        # Another file where a warm machine was given up for a cold one.
        if (folder / name).exists() and (log is None or not _is_same(log, folder / name)):
            log = _opened(folder, name)
        if log is not None:
            _copy(log, output)
        time.sleep(0 if ended else _POLL_SECONDS)
    if log is None:
        _opened(folder, name)  # which says what there is


def _is_same(log: BinaryIO, path: Path) -> bool:
    return os.path.samestat(os.fstat(log.fileno()), path.stat())


def _opened(folder: Path, name: str) -> BinaryIO:
    try:
        return (folder / name).open("rb")
    except OSError as error:
        known = sorted(path.stem for path in folder.glob("*.log"))
        asked = name.removesuffix(".log")
        raise UsageError(
            f"the last run of {folder.name} left no log of {asked!r}{suggestion(asked, known)}",
            f"There is: {', '.join(known)}." if known else "It ended before there was any.",
        ) from error


def _copy(log: BinaryIO, output: BinaryIO) -> None:
    while data := log.read(_CHUNK_BYTES):
        output.write(data)
    output.flush()

"""What the task `logs` does: print the console, or a test binary's output, of the last run.

With `follow`, a log is printed as it grows, until the run ends and writes its result file.
"""

import codecs
import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TextIO

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError, suggestion
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import inert
from bpfmatrix.results.names import named

__all__ = ["SafeWriter", "show"]

_CONSOLE = "console"
_POLL_SECONDS = 0.05
_CHUNK_BYTES = 1 << 16
# A line that is longer is made safe in pieces.
_LINE_CHARACTERS = 1 << 20

Write = Callable[[bytes], object]
"""Takes the next bytes of a log."""


class SafeWriter:
    """Writes a log line by line, without commands for a terminal or a CI system."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line = ""

    def __call__(self, data: bytes) -> None:
        """Write the lines that the next bytes complete."""
        self._line += self._decoder.decode(data)
        if len(self._line) > _LINE_CHARACTERS:
            self._write(self._line)
            self._line = ""
            return
        # Only whole lines: a command may come in two pieces.
        whole, newline, self._line = self._line.rpartition("\n")
        self._write(whole + newline)

    def close(self) -> None:
        """Write a last line without an end."""
        self._line += self._decoder.decode(b"", final=True)
        self._write(self._line)
        self._line = ""

    def _write(self, text: str) -> None:
        self._output.write(inert(text))
        self._output.flush()


def show(
    project: Project,
    id: str,
    test: str,
    write: Write,
    *,
    follow: bool = False,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Write a log by `write`: the kernel's console, or the output of the test binary `test`.

    With `follow`, wait for a log that does not exist yet, as long as the run lasts. `stop` is then
    called now and then, and may raise what ends this. UsageError for an unknown kernel, or for a
    test binary that the last run did not have; BpfmatrixError if there was no run. A test binary is
    named as in results, or by the end of such a name from a `/` on.
    """
    project.config.kernel(id)
    folder, name = project.results / id, test or _CONSOLE
    result = project.results / f"{id}.json"
    if not (folder.is_dir() or result.exists()):
        raise BpfmatrixError(
            f"there is no run of {id} yet", f"Run: {command(f'run --kernel {id}')}"
        )
    # When a run begins, it removes the previous result; when it ends, it writes its own.
    if not follow or result.exists():
        with _opened(folder, name) as file:
            _copy(file, write)
    else:
        _follow(folder, name, result, write, stop)


def _follow(folder: Path, name: str, result: Path, write: Write, stop: Callable[[], None]) -> None:
    log: BinaryIO | None = None
    path: Path | None = None
    ended = False
    while not ended:
        ended = result.exists()
        # A cold machine that replaces a failed warm one writes another file.
        path = path or _found(folder, name)
        if path and (log is None or not _is_same(log, path)):
            log = _opened(folder, name)
        if log is not None:
            _copy(log, write)
        stop()
        time.sleep(0 if ended else _POLL_SECONDS)
    if log is None:
        _opened(folder, name)  # raises, and names the logs that exist


def _is_same(log: BinaryIO, path: Path) -> bool:
    return os.path.samestat(os.fstat(log.fileno()), path.stat())


def _names(folder: Path) -> list[str]:
    """Return the names of the logs in a folder, such as `console` and `example.org/a/b`."""
    logs = (path.relative_to(folder) for path in folder.rglob("*.log"))
    return sorted(str(path).removesuffix(".log") for path in logs)


def _found(folder: Path, name: str) -> Path | None:
    """Return the log of this name; UsageError if the name is the end of several."""
    found = named(name, _names(folder))
    if len(found) > 1:
        raise UsageError(
            f"several test binaries are called {name!r}", f"Name one of: {', '.join(found)}."
        )
    return folder / f"{found[0]}.log" if found else None


def _opened(folder: Path, name: str) -> BinaryIO:
    with contextlib.suppress(OSError):
        if path := _found(folder, name):
            return path.open("rb")
    known = _names(folder)
    raise UsageError(
        f"the last run of {folder.name} has no log of {name!r}{suggestion(name, known)}",
        f"It has: {', '.join(known)}." if known else "It ended before it wrote one.",
    )


def _copy(log: BinaryIO, write: Write) -> None:
    while data := log.read(_CHUNK_BYTES):
        write(data)

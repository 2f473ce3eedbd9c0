"""Standard output and standard error while a command runs: what can't be written is dropped.

A run that is printed to a full disk, or to a pipe whose reader has left, goes on: its machines end
as they should, and its results are written. Only then does the command say that its output is
incomplete, by its exit status and a sentence.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from bpfmatrix.cli import heartbeat
from bpfmatrix.errors import HostError

__all__ = ["BROKEN_PIPE", "forgiving_streams", "output_error", "stop_if_unread"]

BROKEN_PIPE = 128 + 13
"""The exit status of a command whose output nobody reads, as SIGPIPE would have ended it."""


class _ForgivingFile(io.FileIO):
    """A standard stream that keeps its first error, and drops what is written from then on."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        heartbeat.wrote()
        if self.error is None:
            try:
                # None for a pipe that is full and does not block: then 0 was written.
                return super().write(data) or 0
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes  # as if it had been written


_output: _ForgivingFile | None = None


@contextlib.contextmanager
def forgiving_streams() -> Iterator[None]:
    """Let writing to the standard streams cause no error; `output_error` tells of one after it."""
    global _output  # noqa: PLW0603 - as sys.stdout, of which it is a part
    _open_closed_streams()
    before, known = (sys.stdout, sys.stderr), _output
    # A stream that is not the process's own, as under pytest, is left as it is.
    output, errors = (_forgiving(file, fd) for fd, file in enumerate(before, start=1))
    _output = None
    if output is not before[0]:
        _output = output.buffer.raw  # type: ignore[attr-defined]
    sys.stdout, sys.stderr = output, errors
    try:
        yield
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before
        if known is not None:
            _output = known


def output_error() -> HostError | None:
    """Return the error that kept standard output from being written, if there was one.

    Its exit status is that of SIGPIPE if nobody reads the output any more, and it has no text then.
    """
    if _output is None or (error := _output.error) is None:
        return None
    if isinstance(error, BrokenPipeError):
        left = HostError("")
        left.exit_status = BROKEN_PIPE
        return left
    return HostError(
        f"standard output can't be written: {error.strerror}",
        "What is printed is incomplete. Redirect it to /dev/null to do without it.",
    )


def stop_if_unread() -> None:
    """Raise BrokenPipeError if nothing that is printed arrives: for a command without an end."""
    sys.stdout.flush()
    if _output is not None and _output.error is not None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def _open_closed_streams() -> None:
    """Open the standard streams that are closed, so that no other file gets their numbers.

    Standard output and error are opened for reading, so that a write still fails, as it should.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDONLY), True)


def _forgiving(file: TextIO | None, fd: int) -> TextIO:
    if file is not None:
        try:
            if file.fileno() != fd or not isinstance(file, io.TextIOWrapper):
                return file
        except (OSError, ValueError):
            return file
        with contextlib.suppress(OSError):
            file.flush()
    raw = _ForgivingFile(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=file.encoding if file else "utf-8",
        # A name of a file may have bytes that are no text.
        errors="backslashreplace",
        line_buffering=file is None or file.line_buffering,
        write_through=file is None or file.write_through,
    )

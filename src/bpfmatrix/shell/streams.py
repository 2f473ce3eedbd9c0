"""Our standard streams, or our terminal, connected to a command that runs in a guest.

Each stream has a thread of its own. It waits if the other side is slow, so that the command has to
wait as well, as with a pipe. The command sees the end of its input, and a closed output, as it
would on the host.
"""

import abc
import asyncio
import contextlib
import os
import select
import socket
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator

from bpfmatrix.vm.protocol import OutputSplitter, TestCommand

__all__ = ["InputStream", "OutputStream", "are_one", "raw_terminal"]

_CHUNK_BYTES = 1 << 16
# Ctrl-] three times within a second ends the session, as in other tools with a guest's terminal.
_ESCAPE = b"\x1d"
_ESCAPES = 3
_ESCAPE_SECONDS = 1.0


def are_one(first: int, second: int) -> bool:
    """Return whether two descriptors are of the same file, pipe or terminal."""
    try:
        one, other = os.fstat(first), os.fstat(second)
    except OSError:  # one is closed
        return False
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


@contextlib.contextmanager
def raw_terminal(fd: int) -> Iterator[None]:
    """Pass on each key as it is typed, even Ctrl-C. Keys that were typed before are not lost."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSADRAIN)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # closed meanwhile
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


class _Stream(abc.ABC):
    """One direction, copied by a thread that does not keep the process from ending."""

    def __init__(self, fd: int, end: socket.socket) -> None:
        self._fd = fd
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Start to copy."""
        self._thread.start()

    @abc.abstractmethod
    def _work(self) -> None:
        """Copy until the end of the stream."""

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function)


class InputStream(_Stream):
    """Copies from a descriptor to the guest, and passes on its end."""

    def __init__(
        self, fd: int, end: socket.socket, on_end: Callable[[], object] | None = None
    ) -> None:
        """`on_end` is given for a terminal: it is called when the terminal hangs up, or when Ctrl-]
        is typed three times.
        """
        super().__init__(fd, end)
        self._on_end = on_end
        self._escapes: list[float] = []

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # the machine is gone
            while (data := self._read()) and not self._escaped(data):
                self._end.sendall(data)
            if self._on_end:
                self._call(self._on_end)
            else:
                # If it were closed, QEMU would not read the rest.
                self._end.shutdown(socket.SHUT_WR)

    def _read(self) -> bytes:
        while True:
            try:
                return os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:  # another process that has this file made it non-blocking
                select.select([self._fd], [], [])
            except OSError:  # a terminal that hung up (EIO), a descriptor that is closed (EBADF)
                return b""

    def _escaped(self, data: bytes) -> bool:
        if self._on_end is None:
            return False
        now = time.monotonic()
        times = [*self._escapes, *([now] * data.count(_ESCAPE))]
        self._escapes = [at for at in times if now - at < _ESCAPE_SECONDS]
        return len(self._escapes) >= _ESCAPES


class OutputStream(_Stream):
    """Copies from the guest, up to a boundary, to a descriptor; then it sets `done`."""

    def __init__(
        self, fd: int, end: socket.socket, boundary: bytes, on_hung_up: Callable[[], object]
    ) -> None:
        """`on_hung_up` is called when nobody reads the descriptor any more."""
        super().__init__(fd, end)
        self.done = asyncio.Event()
        self._splitter = OutputSplitter([TestCommand(1, (), 0.0, boundary)])
        self._on_hung_up = on_hung_up
        self._open = True

    def _work(self) -> None:
        with contextlib.suppress(OSError):  # the machine is gone
            last = False
            while not last and (data := self._end.recv(_CHUNK_BYTES)):
                for part, last in self._splitter.feed(data):  # noqa: B007
                    self._write(part.data)
        self._call(self.done.set)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left and self._open:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                select.select([], [self._fd], [])
            except OSError:  # nobody reads it any more, so the rest is thrown away
                self._open = False
                self._call(self._on_hung_up)

"""Our standard streams, or our terminal, connected to a command that runs in a guest.

Each stream has a thread of its own. It waits if the other side is slow, so that the command has to
wait as well, as with a pipe. The command sees the end of its input, and a closed output, as it
would on the host.
"""

import abc
import asyncio
import contextlib
import fcntl
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


def _is_readable(fd: int) -> bool:
    """Return whether a descriptor is open, and open for reading."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_WRONLY
    except (OSError, ValueError):
        return False


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
    """One direction, copied by a thread that does not keep the process from ending.

    The thread has a descriptor of its own, which it closes when it ends: the caller may close `fd`
    even if the thread still waits for a slow reader.
    """

    def __init__(self, fd: int, end: socket.socket) -> None:
        try:
            self._fd = os.dup(fd)
        except OSError:  # it is closed, which the thread will find too
            self._fd = -1
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        """Start to copy."""
        self._thread.start()

    @abc.abstractmethod
    def _work(self) -> None:
        """Copy until the end of the stream, and close the descriptor."""

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

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
        self._stopped, self._stopping = os.pipe()

    def stop(self) -> None:
        """Read nothing more, so that others can read what comes later."""
        os.close(self._stopping)

    def _work(self) -> None:
        try:
            self._copy()
        finally:
            self._close()
            os.close(self._stopped)

    def _copy(self) -> None:
        with contextlib.suppress(OSError):  # the machine is gone
            while (data := self._read()) and not self._escaped(data):
                self._end.sendall(data)
            if self._on_end:
                self._call(self._on_end)
            else:
                # If it were closed, QEMU would not read the rest.
                self._end.shutdown(socket.SHUT_WR)

    def _read(self) -> bytes:
        if not _is_readable(self._fd):
            return b""
        waiting = select.poll()
        waiting.register(self._stopped, 0)  # when `stop` closes the other end, POLLHUP is reported
        waiting.register(self._fd, select.POLLIN)
        while True:
            if any(fd == self._stopped for fd, _ in waiting.poll()):
                return b""
            try:
                return os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:  # another process has read what was there
                pass
            except OSError:  # a terminal that hung up (EIO)
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
        # Before anybody is told: the reader then sees the end of the stream at the same time.
        self._close()
        self._call(self.done.set)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left and self._open:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                waiting = select.poll()  # select() takes no descriptor above 1023
                waiting.register(self._fd, select.POLLOUT)
                waiting.poll()
            except OSError:  # nobody reads it any more, so the rest is thrown away
                self._open = False
                self._call(self._on_hung_up)

"""The kernel's console, kept in a file while it is read.

`Console.take` gives what the kernel wrote since the last call. The console and the control port are
two sockets, but QEMU writes to a socket before the guest goes on. What the kernel wrote before the
guest's init said something is therefore in the socket already, and `take` reads it without waiting.
"""

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import BinaryIO

__all__ = ["Console"]

# How much is kept, so that a kernel that floods its console fills neither the disk nor the memory.
_KEPT_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 16
# A kernel that floods its console must not keep the event loop; the rest is read in its next turn.
_READS_AT_ONCE = 64


class Console:
    """Reads a console from a socket, and appends it to a file."""

    def __init__(self, socket: socket.socket, path: Path) -> None:
        self._socket = socket
        self._path = path
        self._file: BinaryIO | None = None
        self._size = 0
        self._untaken = bytearray()
        self.closed = asyncio.Event()
        """Set when QEMU has closed its end, and all was read."""

    def open(self) -> None:
        """Begin to read in the running event loop. OSError if the file can't be opened."""
        self._file = self._path.open("ab", buffering=0)
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def take(self) -> bytes:
        """Return what the kernel wrote since the last call."""
        self._read()
        taken = bytes(self._untaken)
        self._untaken.clear()
        return taken

    def text(self) -> str:
        """Return the content of the file."""
        try:
            return self._path.read_text(errors="replace")
        except OSError:
            return ""

    def _read(self) -> None:
        for _ in range(_READS_AT_ONCE):
            if self._file is None:
                return
            try:
                data = self._socket.recv(_CHUNK_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            kept = data[: max(0, _KEPT_BYTES - self._size)]
            self._size += len(data)
            # If the disk is full, go on reading: the guest would wait for the reader.
            with contextlib.suppress(OSError):
                self._file.write(kept)
            if len(self._untaken) < _KEPT_BYTES:
                self._untaken += data

    def close(self) -> None:
        """Stop reading, and close the file and the socket."""
        if self._file is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._file.close()
            self._file = None
        self._socket.close()
        self.closed.set()

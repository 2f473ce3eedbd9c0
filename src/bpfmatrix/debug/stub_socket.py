"""The socket on which QEMU's gdb stub listens.

Whoever connects to it has QEMU's monitor too (the packet `qRcmd`), which reads and writes files
with the rights of the user who runs QEMU. So it is a Unix socket in a folder of that user, unless a
TCP port is asked for. gdb connects to either with `target remote`.
"""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, UsageError

__all__ = ["TCP_WARNING", "StubSocket", "listening"]

TCP_WARNING = (
    "any user of this host, and a guest with a network, can connect to this port; QEMU's monitor, "
    "which it gives, reads and writes your files"
)
# The length of `sun_path` with its final NUL (unix(7)).
_LONGEST_PATH_BYTES = 108 - 1


@dataclass(frozen=True)
class StubSocket:
    """A listening socket, and its address: a path, or a TCP port on 127.0.0.1."""

    socket: socket.socket
    path: Path | None = None
    port: int | None = None

    @property
    def target(self) -> str:
        """The argument of gdb's `target remote`."""
        return f"127.0.0.1:{self.port}" if self.path is None else str(self.path)


@contextlib.contextmanager
def listening(port: int) -> Iterator[StubSocket]:
    """Give a socket that listens on this TCP port of the loopback interface; 0: a Unix socket.

    UsageError if the port can't be used; BpfmatrixError if no folder can have a Unix socket.
    """
    with _on_port(port) if port else _in_own_folder() as found:
        yield found


@contextlib.contextmanager
def _on_port(port: int) -> Iterator[StubSocket]:
    with socket.socket() as listening:
        # A port that another session has just closed can be used again at once.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
            listening.listen(1)
        except OSError as error:
            raise UsageError(
                f"--port {port}: {error.strerror}",
                "Name another one, or none: gdb then connects to a Unix socket.",
            ) from error
        except OverflowError:
            raise UsageError(f"--port {port}: expected 1 to 65535") from None
        yield StubSocket(listening, port=port)


@contextlib.contextmanager
def _in_own_folder() -> Iterator[StubSocket]:
    folder = _new_folder()
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            path = folder / "gdb"
            listening.bind(os.fsencode(path))
            listening.listen(1)
            yield StubSocket(listening, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder() -> Path:
    """Make a folder that only this user can enter, with a path short enough for a socket in it."""
    parents = (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp")  # noqa: S108
    for parent in map(Path, filter(os.path.isabs, parents)):
        with contextlib.suppress(OSError):
            # Another owner could put another folder in its place. (Root's /tmp is sticky.)
            if parent.stat().st_uid not in (0, os.getuid()):
                continue
            folder = Path(tempfile.mkdtemp(prefix="bpfmatrix-", dir=parent))  # its mode is 0700
            if len(os.fsencode(folder / "gdb")) <= _LONGEST_PATH_BYTES:
                return folder
            folder.rmdir()
    raise BpfmatrixError(
        "no folder for the socket of gdb can be made in $XDG_RUNTIME_DIR, $TMPDIR or /tmp",
        "Set TMPDIR to a folder that you can write to, with a path of at most 80 characters.",
    )

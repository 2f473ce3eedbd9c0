"""The process that serves one folder of the host to one machine, over virtiofs.

`command` gives the command that starts it. It ends with its machine, and needs no privileges.
"""

import os
import socket
import sys
from pathlib import Path

from bpfmatrix.virtiofs.shares import HostFolder

__all__ = ["command"]


def command(folder: HostFolder, fd: int) -> list[str]:
    """Return the command that serves a folder to the QEMU at the other end of a socket.

    The process must inherit the socket, as this descriptor.
    """
    mode = "rw" if folder.writable else "ro"
    words = (str(fd), mode, str(folder.valid_seconds), str(folder.path))
    return [sys.executable, "-m", "bpfmatrix.virtiofs.server", *words]


def _main(fd: str, mode: str, valid_seconds: str, folder: str) -> None:
    """Serve until the machine ends. The arguments are those of `command`."""
    # Every run imports `command`; only this process needs the server itself.
    import resource  # noqa: PLC0415

    from bpfmatrix.virtiofs.confinement import drop_capabilities  # noqa: PLC0415
    from bpfmatrix.virtiofs.fuse import FuseServer  # noqa: PLC0415
    from bpfmatrix.virtiofs.vhost import serve  # noqa: PLC0415

    # Each file that the guest knows takes a descriptor.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if os.geteuid() == 0:
        drop_capabilities()
    os.umask(0)  # the guest has applied the umask of its process
    files = FuseServer(Path(folder), mode == "rw", float(valid_seconds))
    serve(socket.socket(fileno=int(fd)), files)


if __name__ == "__main__":
    _main(*sys.argv[1:])

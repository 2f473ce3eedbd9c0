"""The process that serves one folder to one machine: `python -m bpfmatrix.virtiofs.server`.

Its arguments are the descriptor of its socket, `ro` or `rw`, for how many seconds the guest may
trust what it was told, and the folder. It ends with its machine. It needs no rights of its own.
"""

import os
import resource
import socket
import sys
from pathlib import Path

from bpfmatrix.virtiofs.fuse import Folder
from bpfmatrix.virtiofs.vhost import serve


def main(fd: str, mode: str, valid_seconds: str, folder: str) -> None:
    """Serve until the machine ends."""
    # Each file that the guest knows takes a descriptor.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0)  # the guest has applied its own
    shared = Folder(Path(folder), mode == "rw", float(valid_seconds))
    serve(socket.socket(fileno=int(fd)), shared)


if __name__ == "__main__":
    main(*sys.argv[1:])

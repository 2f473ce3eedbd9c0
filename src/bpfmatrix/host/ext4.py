"""Images of ext4 file systems: made by mkfs.ext4 from a folder, and changed or read by debugfs.

All of it is done by the user who runs bpfmatrix; nothing is mounted.
"""

import functools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import tools
from bpfmatrix.host.process import output, reason_of_end

__all__ = ["change", "has", "make", "quoted", "size_for"]

_PACKAGE = "e2fsprogs"
# What mkfs.ext4 reserves for one inode, by default, and what a file takes of the disk at least.
_BYTES_PER_INODE, _BLOCK_BYTES = 16384, 4096
_FIXED_UUID = "6270666d-6174-7269-7800-000000000001"


def make(
    root: Path, target: Path, size_bytes: int, what: str, *, error: type[BpfmatrixError]
) -> None:
    """Make an image of this size with the files of a folder; it is for reading only.

    `what` the image is, for the message of `error`, which is raised if that fails.
    """
    command: list[str | Path] = [
        *(tools.require("mkfs.ext4", _PACKAGE), "-q", "-F", "-d", root, "-U", _FIXED_UUID),
        # No journal and no reserved blocks: the image is written once, and then only read.
        *("-m", "0", "-O", "^has_journal,^resize_inode"),
        *("-E", f"hash_seed={_FIXED_UUID},nodiscard"),
        *(target, f"{size_bytes >> 10}k"),
    ]
    output(command, f"mkfs.ext4 could not make {what}", error=error)


def size_for(content_bytes: int, inodes: int, least_bytes: int) -> int:
    """Return the size of an image that has place for so many bytes of content and inodes.

    It is one of few sizes, so that a machine that was saved with one image can often be restored
    with another. The file is sparse, so its size costs nothing.
    """
    size, needed = least_bytes, content_bytes + inodes * _BLOCK_BYTES
    while size < needed * 1.25 or size < inodes * 1.25 * _BYTES_PER_INODE:
        size *= 2
    return size


def change(image: Path, commands: Sequence[bytes], file: Path, what: str) -> None:
    """Change an image by commands of debugfs(8), which are written to a new file.

    `what` the image is, for the message of the BpfmatrixError if one of them fails.
    """
    file.write_bytes(b"".join(command + b"\n" for command in commands))
    done = subprocess.run(
        [tools.require("debugfs", _PACKAGE), "-w", "-f", file, image],
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # it repeats the commands
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    # debugfs goes on after an error, and its exit status is 0. Its first line is its version.
    said = "\n".join(done.stderr.splitlines()[1:])
    if done.returncode != 0 or said:
        reason = reason_of_end(done.returncode, said)
        raise BpfmatrixError(f"debugfs could not complete {what}: {reason}")


@functools.cache
def has(image: Path, path: str) -> bool:
    """Tell whether an image has this path. Symbolic links in it are followed, but not the last."""
    if "\n" in path or "\r" in path:
        return False
    request = b"stat " + quoted(path)
    debugfs = tools.require("debugfs", _PACKAGE)
    said = output([debugfs, "-R", os.fsdecode(request), image], f"debugfs could not read {image}")
    return said.startswith("Inode:")


def quoted(path: str) -> bytes:
    """Return a path as a word of debugfs's commands; ValueError if it can't be one."""
    if "\n" in path or "\r" in path:
        raise ValueError("a line break")
    return b'"' + os.fsencode(path).replace(b'"', b'""') + b'"'

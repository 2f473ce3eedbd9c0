"""Files that a user names, such as a report: written as a whole, or left as they were."""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

__all__ = ["check_writable", "write_whole"]


def check_writable(path: Path) -> None:
    """OSError, which names the file, if `write_whole` could not write it now."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            return  # such as a pipe, in which a trial would be noticed
        # A link may lead to a file that is not there yet.
        folder = next(parent for parent in path.resolve().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, and make the folder that it is in; OSError names the file.

    The file is renamed into place when it is complete. A device or a pipe, such as `/dev/stdout`,
    is written to, and so is what a symbolic link leads to: a rename would put a file in its place.
    """
    if path.is_dir():  # such as the path of an empty name
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            path.write_bytes(data)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        # There is none if it could not be made, such as below a file.
        with contextlib.suppress(OSError):
            temporary.unlink()
        error.filename, error.filename2 = str(path), None
        raise

"""Faults of the host that a user can mend, such as a full disk, as errors with two sentences.

Python raises an OSError for them, wherever a file is used. `explained` knows the kinds that are no
mistakes of bpfmatrix, whatever the file. All other exceptions are mistakes: they keep their
traceback.
"""

import contextlib
import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, HostError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.front_end import command
from bpfmatrix.host.process import reason_of_end

__all__ = ["as_errors", "explained", "naming"]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
# A file where a folder should be, or the other way round. (A missing file that no user named is a
# mistake of bpfmatrix.)
_CLASHES = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY)
_NAME_CHARACTERS = 120
_LITTLE_BYTES = 1 << 30


def explained(error: BaseException) -> BpfmatrixError | None:
    """Return the error that explains a fault of the host to a user; None for any other exception.

    A BpfmatrixError is returned as it is.
    """
    match error:
        case BpfmatrixError():
            return error
        case subprocess.CalledProcessError():
            return _of_tool(error)
        case OSError():
            return _of_file(error)
    return None


@contextlib.contextmanager
def as_errors() -> Iterator[None]:
    """Raise a fault of the host as the BpfmatrixError that explains it."""
    try:
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        known = explained(error)
        if known is None:
            raise
        raise known from error


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in the OSErrors of its reads and writes: only those of open() name it."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def _of_tool(error: subprocess.CalledProcessError) -> BpfmatrixError:
    words = error.cmd if isinstance(error.cmd, list | tuple) else [error.cmd]
    said = error.stderr or b""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    how = reason_of_end(error.returncode, text)
    return HostError(f"{Path(str(words[0])).name} failed: {how}")


def _of_file(error: OSError) -> BpfmatrixError | None:
    name, said = _name(error), error.strerror or ""
    at = f"{name}: " if name else ""
    what = advice = ""
    match error.errno:
        case number if number in _FULL:
            what = f"{name or _full_place()} can't be written: {said}"
            advice = (
                f"Free some space there: `{command('kernels.prune')}` removes what the cache does "
                "not need, and BPFMATRIX_CACHE can name a folder on another disk."
            )
        case errno.EFBIG:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            bytes_ = f" ({limit} bytes)" if limit != resource.RLIM_INFINITY else ""
            what = f"{name or 'a file'} would be larger than this user's files may be{bytes_}"
            advice = "Raise the limit: ulimit -f unlimited."
        case errno.EMFILE:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            what = f"{at}this process may not have more than {limit} open files"
            advice = "Raise the limit (ulimit -n 1024), or run fewer machines at once (--jobs 1)."
        case errno.ENFILE:
            what, advice = f"{at}this host has too many open files", "Try again later."
        case errno.ENAMETOOLONG:
            what = f"the name {name or 'of a file'} is longer than a file system allows"
            advice = "Give it a shorter name."
        case number if number in _REFUSED and name:
            what = f"{name} can't be used: {said}"
            advice = (
                "Let this user read and write it. For the cache, BPFMATRIX_CACHE can name another "
                "folder."
            )
        case number if number in _CLASHES and name:
            what, advice = f"{name} is in the way: {said}", "Remove it, or rename it."
        case errno.EIO | errno.ENODEV | errno.ESTALE:
            what, advice = f"{at}{said}", "The disk, or the server that it is on, has a fault."
        case errno.ENOMEM | errno.EAGAIN:
            # fork() fails so, for want of memory or of processes (RLIMIT_NPROC).
            what = f"{at}this host has no room for another process: {said}"
            advice = "Free some memory, or raise the limit of processes: ulimit -u."
    return HostError(what, advice) if what else None


def _name(error: OSError) -> str:
    # Of two files, as in a rename, the second one is the one that is made.
    found = error.filename2 or error.filename
    if found is None or isinstance(found, int):
        return ""
    name = os.fsdecode(found)
    return name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}..."


def _full_place() -> str:
    """Return what was probably written to: of the folders that exist, the one with the least space.

    The file that filled the disk is no longer there, mostly.
    """
    places: dict[Path, int] = {}
    for folder in (
        Path(".bpfmatrix").absolute(),
        Cache.default().root,
        Path(tempfile.gettempdir()),
    ):
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            places[folder] = found.f_bavail * found.f_frsize if found.f_favail else 0
    least = min(places, key=lambda folder: places[folder], default=None)
    if least is None or places[least] > _LITTLE_BYTES:
        return "a file"
    return f"a file in {least} ({places[least] >> 20} MB left)"

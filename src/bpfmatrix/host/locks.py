"""Locks on files and folders, against other processes and other threads of this one.

A lock is one of flock(2), always exclusive. It ends with its holder, however that ends, and the
file stays: removing it would let two processes hold locks on two files of one name.
"""

import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

__all__ = ["folder_locked_if_free", "locked", "locked_if_free", "locked_in_loop"]

_POLL_SECONDS = 0.02


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of a file, which is made if it is missing; OSError if it can't be made.

    `waiting` is called once if somebody else holds the lock.
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        if not _taken(descriptor):
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock as `locked` does, but do not wait; gives whether it is held."""
    with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        yield _taken(descriptor)


@contextlib.contextmanager
def folder_locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock of a folder, but do not wait; gives whether it is held.

    OSError if the path is no folder.
    """
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        yield _taken(descriptor)


@contextlib.asynccontextmanager
async def locked_in_loop(path: Path) -> AsyncIterator[None]:
    """Hold the lock as `locked` does; the event loop goes on while this waits."""
    import asyncio  # noqa: PLC0415 - off the start-up path

    with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        # flock(2) can only block or fail, and tells nobody when a lock becomes free.
        while not _taken(descriptor):
            await asyncio.sleep(_POLL_SECONDS)
        yield


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # A file is opened for writing, without which NFS gives no exclusive lock (flock(2)).
    descriptor = os.open(path, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""Exclusive locks on files and folders, against other processes and other threads.

The locks are those of flock(2). The kernel releases a lock when its holder ends, even if that is
killed. The file of a lock is never removed: otherwise two processes could hold locks on two
different files with the same name.
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
    """Hold the lock of a file, which is created if it is missing; OSError if that fails.

    `waiting` is called once if another holder must be waited for.
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        if not _taken(descriptor):
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Try to hold the lock of a file without waiting; yield whether it is held.

    The file is created if it is missing; OSError if that fails.
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        yield _taken(descriptor)


@contextlib.contextmanager
def folder_locked_if_free(path: Path) -> Iterator[bool]:
    """Try to hold the lock of a folder without waiting; yield whether it is held.

    OSError if the path is no folder.
    """
    with _opened(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        yield _taken(descriptor)


@contextlib.asynccontextmanager
async def locked_in_loop(path: Path) -> AsyncIterator[None]:
    """Hold the lock of a file as `locked` does, without blocking the event loop."""
    import asyncio  # noqa: PLC0415 - off the start-up path

    with _opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        # flock(2) has no call that reports when a lock becomes free without blocking the thread.
        while not _taken(descriptor):
            await asyncio.sleep(_POLL_SECONDS)
        yield


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    # On NFS, an exclusive lock needs a file that is open for writing (flock(2)).
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

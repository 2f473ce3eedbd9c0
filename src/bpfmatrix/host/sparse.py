"""Copies files that are mostly holes, such as images of disks and memory, with their holes."""

import os

__all__ = ["copy"]


def copy(source: int, target: int) -> None:
    """Give a file, by its descriptor, the content of another one, with its holes."""
    size = os.fstat(source).st_size
    os.truncate(target, 0)
    os.truncate(target, size)
    start = 0
    while start < size:
        try:
            start = os.lseek(source, start, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole is left
            return
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            start += os.sendfile(target, source, start, end - start)

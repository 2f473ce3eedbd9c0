"""Copies of sparse files, such as images of disks and memory."""

import os

__all__ = ["copy"]


def copy(source: int, target: int) -> None:
    """Copy the content of one open file to another, leaving holes where the source has them.

    Both are descriptors; what the target had before is lost. OSError if the disk is full.
    """
    size = os.fstat(source).st_size
    os.truncate(target, 0)
    os.truncate(target, size)
    start = 0
    while start < size:
        try:
            start = os.lseek(source, start, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole follows
            return
        end = os.lseek(source, start, os.SEEK_HOLE)
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            start += os.sendfile(target, source, start, end - start)

"""Copies and checksums of sparse files, such as images of disks and memory."""

import os
from collections.abc import Iterator

from bpfmatrix.host.checksum import RunningSha256

__all__ = ["copy", "sha256_of_open"]

_CHUNK_BYTES = 1 << 16
_ZEROS = bytes(_CHUNK_BYTES)


def copy(source: int, target: int) -> None:
    """Copy the content of one open file to another, leaving holes where the source has them.

    Both are descriptors; what the target had before is lost. OSError if the disk is full.
    """
    size = os.fstat(source).st_size
    os.truncate(target, 0)
    os.truncate(target, size)
    for start, end in _data(source, size):
        os.lseek(target, start, os.SEEK_SET)
        done = start
        while done < end:
            done += os.sendfile(target, source, done, end - done)


def sha256_of_open(file: int) -> str:
    """Return a checksum of an open file, for which its holes are not read.

    It is the SHA-256 of the size, and of the position and content of each piece of 64 KiB that is
    not all zeros. So a copy that has zeros in place of holes, or holes in place of zeros, has the
    same checksum. OSError if the file can't be read.
    """
    size = os.fstat(file).st_size
    whole = RunningSha256(f"{size}\n".encode())
    done = 0
    for start, end in _data(file, size):
        at = max(done, start - start % _CHUNK_BYTES)
        while at < end:
            chunk = os.pread(file, _CHUNK_BYTES, at)
            if chunk != _ZEROS[: len(chunk)]:
                whole.update(f"{at} {len(chunk)}\n".encode())
                whole.update(chunk)
            at += _CHUNK_BYTES
        done = at
    return whole.hexdigest()


def _data(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Give the start and the end of each part of an open file that is no hole."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:  # ENXIO: only a hole follows
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end

"""Damage to a file, in every way that a test of the cache makes happen, and what is told of it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["DAMAGES", "Notes", "flip_bit", "flip_bit_quietly"]


@dataclass
class Notes:
    """A NotingProgress that keeps the notes."""

    told: list[str] = field(default_factory=list)

    def __call__(self, text: str, fraction: float | None = None) -> None:
        """Ignore what the next report would replace."""

    def note(self, text: str) -> None:
        """Keep it."""
        self.told.append(text)


def flip_bit(path: Path, place: int | None = None, mask: int = 1) -> None:
    """Flip a bit of the byte at a place, by default in the middle of the file."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 2 if place is None else place)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ mask]))


def flip_bit_quietly(path: Path, place: int | None = None, mask: int = 1) -> None:
    """Flip a bit, and set the modification time to what it was."""
    stat = path.stat()
    flip_bit(path, place, mask)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _junk(path: Path) -> None:
    path.write_bytes(b"junk\n" * 100)


def _not_utf8(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x80")


def _other_file_of_that_size(path: Path) -> None:
    stat = path.stat()
    new = path.with_name("new")
    new.write_bytes(b"x" * stat.st_size)
    os.utime(new, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    new.replace(path)


DAMAGES: tuple[Callable[[Path], None], ...] = (
    flip_bit,
    flip_bit_quietly,
    _empty,
    _junk,
    _not_utf8,
    _other_file_of_that_size,
    Path.unlink,
)

"""Archives in the `newc` format of cpio, in which the kernel takes its initramfs.

`pack` gives the same bytes for the same entries; `unpack` reads them back.
"""

import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Entry", "pack", "unpack"]

# The kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a magic, then 13 numbers
# of 8 hexadecimal digits (ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
# rdevmajor, rdevminor, namesize with the final NUL, check), name and content padded to 4 bytes.
_MAGIC = b"070701"
_HEADER_BYTES = len(_MAGIC) + 13 * 8
_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_TRAILER = "TRAILER!!!"
_LARGEST_BYTES = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """A file, folder, symbolic link (`content` is its target) or character device."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)

    @classmethod
    def file(cls, name: str, content: bytes, *, executable: bool = False) -> "Entry":
        """Return a regular file with mode 0755 or 0644."""
        return cls(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    @classmethod
    def folder(cls, name: str) -> "Entry":
        """Return a folder with mode 0755."""
        return cls(name, stat.S_IFDIR | 0o755)

    @classmethod
    def link(cls, name: str, target: str) -> "Entry":
        """Return a symbolic link."""
        return cls(name, stat.S_IFLNK | 0o777, target.encode())


def pack(entries: Iterable[Entry]) -> bytes:
    """Return an uncompressed `newc` archive of the entries, in their order, owned by root.

    A folder must come before what is in it, since the kernel does not create missing folders.
    ValueError if a name is not a relative path, if two entries have one name, or if a content is
    larger than the format allows.
    """
    archive, names = bytearray(), set()
    for number, entry in enumerate(entries, start=1):
        name = entry.name.encode()
        parts = entry.name.split("/")
        if {"", ".", ".."}.intersection(parts) or b"\0" in name or entry.name == _TRAILER:
            raise ValueError(f"not a relative path: {entry.name!r}")
        if entry.name in names:
            raise ValueError(f"two entries with the name {entry.name!r}")
        if len(entry.content) > _LARGEST_BYTES:
            raise ValueError(f"{entry.name}: the newc format holds at most 4 GiB")
        names.add(entry.name)
        _append(archive, number, entry, name)
    _append(archive, 0, Entry(_TRAILER, 0), _TRAILER.encode())
    return bytes(archive)


def _append(archive: bytearray, number: int, entry: Entry, name: bytes) -> None:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    size = len(entry.content)
    fields = (number, entry.mode, 0, 0, links, 0, size, 0, 0, *entry.device, len(name) + 1, 0)
    archive += _MAGIC + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    archive += bytes(-len(archive) % 4)
    archive += entry.content
    archive += bytes(-len(archive) % 4)


def unpack(archive: bytes) -> list[Entry]:
    """Return the entries of an uncompressed `newc` archive; ValueError if it is not one."""
    entries: list[Entry] = []
    position = 0
    while True:
        header = archive[position : position + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise ValueError(f"no newc header at byte {position}")
        digits = struct.unpack("8s" * 13, header[len(_MAGIC) :])
        if not all(_DIGITS.issuperset(field) for field in digits):
            raise ValueError(f"no newc header at byte {position}")
        fields = [int(field, 16) for field in digits]
        mode, size, device, name_size = fields[1], fields[6], (fields[9], fields[10]), fields[11]
        start = position + _HEADER_BYTES
        name = archive[start : start + name_size - 1].decode()
        content_start = _aligned(start + name_size)
        position = _aligned(content_start + size)
        if position > len(archive):
            raise ValueError(f"the archive ends within {name!r}")
        if name == _TRAILER:
            return entries
        entries.append(Entry(name, mode, archive[content_start : content_start + size], device))


def _aligned(position: int) -> int:
    return (position + 3) & ~3

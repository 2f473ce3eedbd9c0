"""eBPF objects in executables: go:embed, libbpf's skeletons and include_bytes! keep them whole.

So the very object that a test loaded is found in the test's own file. `find` yields each one.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find"]

# The beginning of a little-endian 64-bit ELF file (System V ABI, "ELF Header"): EI_MAG, EI_CLASS,
# EI_DATA and EI_VERSION.
_MAGIC = b"\x7fELF\x02\x01\x01"
# e_type and e_machine, then e_shoff, then e_ehsize to e_shnum.
_HEADER = struct.Struct("<16xHHI8x8xQI6H")
_ET_REL, _EM_BPF = 1, 247
# sh_type, sh_offset and sh_size of a section header.
_SECTION = struct.Struct("<4xI16xQQ24x")
_SECTION_BYTES = 64
_SHT_NOBITS = 8
# A larger object than this, or more of them, is a mistake of this search.
_MOST_BYTES = 64 << 20
_MOST_OBJECTS = 200


def find(path: Path) -> Iterator[bytes]:
    """Yield the little-endian eBPF objects in a file, each once; nothing if it can't be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from _in(data)
    except (OSError, ValueError):  # ValueError: an empty file
        return


def _in(data: mmap.mmap) -> Iterator[bytes]:
    seen: set[bytes] = set()
    at = data.find(_MAGIC)
    while at >= 0 and len(seen) < _MOST_OBJECTS:
        size = _size(data, at)
        if size:
            content = data[at : at + size]
            if content not in seen:
                seen.add(content)
                yield content
        at = data.find(_MAGIC, at + max(size, len(_MAGIC)))


def _size(data: mmap.mmap, at: int) -> int:
    """Return the size of the eBPF object that begins there; 0 if none does."""
    if at + _HEADER.size > len(data):
        return 0
    kind, machine, _, sections, _, _, _, _, entry, count, _ = _HEADER.unpack_from(data, at)
    if (kind, machine, entry) != (_ET_REL, _EM_BPF, _SECTION_BYTES):
        return 0
    end = sections + count * _SECTION_BYTES
    if not 0 < end <= min(_MOST_BYTES, len(data) - at):
        return 0
    for number in range(count):
        place = at + sections + number * _SECTION_BYTES
        section_kind, offset, size = _SECTION.unpack_from(data, place)
        if section_kind != _SHT_NOBITS:
            end = max(end, offset + size)
    return end if end <= min(_MOST_BYTES, len(data) - at) else 0

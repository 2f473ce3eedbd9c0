"""The lines of C in an object's BTF: which line each instruction of a program was compiled from.

The formats are those of Documentation/bpf/btf.rst, "ELF File Format Interface". A loader appends
the functions that a program calls behind its own instructions, and where they go, only the loader
knows: so only the program's own instructions have lines here.
"""

import contextlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.verify.verifierlog import LineInfo

if TYPE_CHECKING:
    from elftools.elf.sections import Section

__all__ = ["last_lines", "read", "sizes"]

_MAGIC = 0xEB9F
# struct btf_header: magic, hdr_len, str_off and str_len.
_BTF = struct.Struct("<HxxI8xII")
# struct btf_ext_header: magic, hdr_len, line_info_off and line_info_len.
_BTF_EXT = struct.Struct("<HxxI8xII")
# struct btf_ext_info_sec: sec_name_off and num_info.
_SECTION = struct.Struct("<II")
# struct bpf_line_info: insn_off (here in bytes, from the section's begin), file_name_off, line_off
# and line_col, whose upper 22 bits are the line's number.
_LINE = struct.Struct("<IIII")
_INSTRUCTION_BYTES = 8
_COLUMN_BITS = 10


def read(path: Path, program: str) -> list[LineInfo]:
    """Return the lines of a program of a little-endian object, in the order of instructions.

    It is empty if the object has none, or can't be read.
    """
    found: list[LineInfo] = []
    with _damage_ignored(), _opened(path) as sections:
        place = next((place for name, place in _functions(sections) if name == program), None)
        if place is None:
            return []
        section, start, size = place
        for name, offset, line in _lines(sections):
            if name == section and start <= offset < start + size:
                number = (offset - start) // _INSTRUCTION_BYTES
                found.append(LineInfo(number, line.file, line.line, line.text))
        return sorted(found, key=lambda one: one.instruction)
    return []


def sizes(path: Path) -> dict[str, int]:
    """Return how many instructions each function of an object has, programs included.

    It is empty if the object can't be read.
    """
    with _damage_ignored(), _opened(path) as sections:
        return {name: size // _INSTRUCTION_BYTES for name, (_, _, size) in _functions(sections)}
    return {}


def last_lines(path: Path) -> dict[str, int]:
    """Return the last line with an instruction in each source file of a little-endian object.

    It is empty if the object has no lines, or can't be read.
    """
    found: dict[str, int] = {}
    with _damage_ignored(), _opened(path) as sections:
        for _, _, line in _lines(sections):
            found[line.file] = max(line.line, found.get(line.file, 0))
        return found
    return {}


@contextlib.contextmanager
def _opened(path: Path) -> "Iterator[Sequence[Section]]":
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - slow to import

    with path.open("rb") as file:
        yield list(ELFFile(file).iter_sections())


@contextlib.contextmanager
def _damage_ignored() -> Iterator[None]:
    """Leave the block without an error where the file is damaged, or is none that can be read."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.construct import ConstructError  # noqa: PLC0415

    damaged = (ELFError, ConstructError, OSError, struct.error, LookupError, ValueError)
    # pyelftools raises the last two, as well.
    with contextlib.suppress(*damaged, AttributeError, TypeError):
        yield


def _functions(sections: "Sequence[Section]") -> Iterator[tuple[str, tuple[str, int, int]]]:
    """Yield each function: its name, its section, and its offset and size there in bytes."""
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415 - slow to import

    for table in sections:
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                place = symbol["st_shndx"]
                if symbol["st_info"]["type"] == "STT_FUNC" and isinstance(place, int):
                    section = sections[place].name
                    yield symbol.name, (section, symbol["st_value"], symbol["st_size"])


def _lines(sections: "Sequence[Section]") -> Iterator[tuple[str, int, LineInfo]]:
    """Yield each line with its section and its offset there in bytes; its instruction is 0."""
    data = {one.name: one.data() for one in sections if one.name in (".BTF", ".BTF.ext")}
    btf, ext = data[".BTF"], data[".BTF.ext"]
    magic, header, strings, length = _BTF.unpack_from(btf)
    if magic != _MAGIC:
        return
    table = btf[header + strings : header + strings + length]

    def text(offset: int) -> str:
        return table[offset : table.index(b"\0", offset)].decode(errors="replace")

    magic, header, begin, length = _BTF_EXT.unpack_from(ext)
    if magic != _MAGIC or not length:
        return
    at, end = header + begin, header + begin + length
    (record,) = struct.unpack_from("<I", ext, at)
    at += 4
    if record < _LINE.size:
        return
    while at < end:
        name, count = _SECTION.unpack_from(ext, at)
        at += _SECTION.size
        section = text(name)
        for number in range(count):
            offset, file, line, column = _LINE.unpack_from(ext, at + number * record)
            yield section, offset, LineInfo(0, text(file), column >> _COLUMN_BITS, text(line))
        at += count * record

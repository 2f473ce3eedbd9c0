"""The lines of C in an object's BTF: which line each instruction of a program was compiled from.

The formats are those of Documentation/bpf/btf.rst, "ELF File Format Interface". A loader appends
the functions that a program calls behind its own instructions, and where they go, only the loader
knows: so only the program's own instructions have lines here.
"""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.verify.verifierlog import LineInfo

if TYPE_CHECKING:
    from elftools.elf.sections import Section

__all__ = ["read"]

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
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.construct import ConstructError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    damaged = (ELFError, ConstructError, OSError, struct.error, LookupError, ValueError)
    try:
        with path.open("rb") as file:
            sections = list(ELFFile(file).iter_sections())
            place = _place(sections, program)
            data = {one.name: one.data() for one in sections if one.name in (".BTF", ".BTF.ext")}
        found = _lines(data[".BTF"], data[".BTF.ext"], *place) if place else ()
        return sorted(found, key=lambda one: one.instruction)
    except (*damaged, AttributeError, TypeError):  # pyelftools raises these, too
        return []


def _place(sections: "Sequence[Section]", program: str) -> tuple[str, int, int] | None:
    """Return the section of a program, and its offset and size there in bytes."""
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415 - slow to import

    for table in sections:
        if isinstance(table, SymbolTableSection):
            for symbol in table.iter_symbols():
                if symbol.name == program and symbol["st_info"]["type"] == "STT_FUNC":
                    section = sections[symbol["st_shndx"]].name
                    return section, symbol["st_value"], symbol["st_size"]
    return None


def _lines(btf: bytes, ext: bytes, section: str, start: int, size: int) -> Iterator[LineInfo]:
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
        is_ours = text(name) == section
        for number in range(count if is_ours else 0):
            offset, file, line, column = _LINE.unpack_from(ext, at + number * record)
            if start <= offset < start + size:
                yield LineInfo(
                    (offset - start) // _INSTRUCTION_BYTES,
                    text(file),
                    column >> _COLUMN_BITS,
                    text(line),
                )
        at += count * record

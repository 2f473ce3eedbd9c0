"""The lines of C in an object's BTF: which line each instruction of a program was compiled from.

The formats are those of Documentation/bpf/btf.rst, "ELF File Format Interface". A loader appends
the functions that a program calls behind its own instructions, and where they go, only the loader
knows: so only the program's own instructions have lines here.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from bpfmatrix.verify.verifierlog import LineInfo

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

    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            data = {
                section.name: section.data()
                for section in elf.iter_sections()
                if section.name in (".BTF", ".BTF.ext")
            }
            place = next(
                (
                    (
                        elf.get_section(symbol["st_shndx"]).name,
                        symbol["st_value"],
                        symbol["st_size"],
                    )
                    for symbol in elf.get_section_by_name(".symtab").iter_symbols()
                    if symbol.name == program and symbol["st_info"]["type"] == "STT_FUNC"
                ),
                None,
            )
        if place is None:
            return []
        return sorted(
            _lines(data[".BTF"], data[".BTF.ext"], *place), key=lambda one: one.instruction
        )
    except (
        ELFError,
        ConstructError,
        OSError,
        struct.error,
        LookupError,
        ValueError,
        AttributeError,
        TypeError,
    ):
        return []  # damaged, or without BTF


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

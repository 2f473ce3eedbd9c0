"""Writes a copy of a kernel's ELF file with a symbol table.

The format is that of the System V ABI, "ELF-64 Object File Format"; all kernels here are
little-endian.
"""

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.kernels.symbols.elf import Symbol

__all__ = ["write"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SHT_SYMTAB, _SHT_STRTAB, _SHF_ALLOC = 2, 3, 2
_GLOBAL_FUNCTION = 0x12  # STB_GLOBAL, STT_FUNC
_ALIGNMENT = 8


class _Header(NamedTuple):
    """Elf64_Ehdr."""

    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


class _Section(NamedTuple):
    """Elf64_Shdr."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    addralign: int
    entsize: int


def write(boot: Path, symbols: Iterable[Symbol], target: Path) -> None:
    """Write a copy of the ELF file `boot` with these symbols, which become global functions.

    A symbol in none of the file's sections is left out. KernelUnavailableError if `boot` is no
    64-bit ELF file.
    """
    data, header, sections = _read(boot)

    def append(content: bytes) -> tuple[int, int]:
        """Append to the file; return the offset and the size."""
        data.extend(bytes(-len(data) % _ALIGNMENT))
        offset = len(data)
        data.extend(content)
        return offset, len(content)

    entries, strings = _table(sections, symbols)
    names = sections[header.shstrndx]
    old_names = bytes(data[names.offset : names.offset + names.size])
    offset, size = append(old_names + b".symtab\0.strtab\0")
    sections[header.shstrndx] = names._replace(offset=offset, size=size)
    offset, size = append(entries)
    symtab = _Section(
        name=len(old_names),
        type=_SHT_SYMTAB,
        flags=0,
        addr=0,
        offset=offset,
        size=size,
        link=header.shnum + 1,  # the section of the strings
        info=1,  # the first symbol that is not local
        addralign=_ALIGNMENT,
        entsize=_SYMBOL.size,
    )
    offset, size = append(strings)
    strtab = _Section(
        name=len(old_names) + len(b".symtab\0"),
        type=_SHT_STRTAB,
        flags=0,
        addr=0,
        offset=offset,
        size=size,
        link=0,
        info=0,
        addralign=1,
        entsize=0,
    )
    offset, _ = append(b"".join(_SECTION.pack(*each) for each in (*sections, symtab, strtab)))
    _HEADER.pack_into(data, 0, *header._replace(shoff=offset, shnum=header.shnum + 2))
    target.write_bytes(data)


def _read(boot: Path) -> tuple[bytearray, _Header, list[_Section]]:
    data = bytearray(boot.read_bytes())
    if data[:5] != b"\x7fELF\x02":
        raise KernelUnavailableError(
            f"{boot.name} is no ELF file, to which names could be added",
            "Name the kernel's vmlinux with --vmlinux.",
        )
    header = _Header(*_HEADER.unpack_from(data))
    sections = [
        _Section(*_SECTION.unpack_from(data, header.shoff + header.shentsize * number))
        for number in range(header.shnum)
    ]
    return data, header, sections


def _table(sections: Sequence[_Section], symbols: Iterable[Symbol]) -> tuple[bytes, bytes]:
    """Return the content of the symbol table, and that of its string table."""
    # Both begin with an empty entry.
    entries, strings = bytearray(_SYMBOL.size), bytearray(1)
    for symbol in sorted(symbols, key=lambda each: each.address):
        if section := _section_of(sections, symbol.address):
            entries += _SYMBOL.pack(len(strings), _GLOBAL_FUNCTION, 0, section, symbol.address, 0)
            strings += symbol.name.encode() + b"\0"
    return bytes(entries), bytes(strings)


def _section_of(sections: Sequence[_Section], address: int) -> int:
    """Return the index of the section that holds an address; 0 if none does."""
    for index, section in enumerate(sections):
        if section.flags & _SHF_ALLOC and section.addr <= address < section.addr + section.size:
            return index
    return 0

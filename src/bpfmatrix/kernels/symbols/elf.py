"""ELF files of kernels: the build id, and the symbols with their addresses.

The symbols are read here and not by pyelftools, which takes seconds for the 150,000 of a kernel.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bpfmatrix.errors import UsageError

__all__ = ["Symbol", "build_id", "has_lines", "holds_build_id", "symbols"]

# An ELF note: the sizes of its name and content, its type, "GNU\0" and 20 bytes of SHA-1
# (System V ABI, "Note Section"; NT_GNU_BUILD_ID is 3).
_NOTE_HEAD = struct.pack("<III", 4, 20, 3) + b"GNU\0"
# Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size.
_SYMBOL = struct.Struct("<IBBHQQ")
_OBJECT, _SECTION, _FILE = 1, 3, 4  # STT_*
_UNDEFINED, _ABSOLUTE = 0, 0xFFF1  # SHN_*


@dataclass(frozen=True)
class Symbol:
    """A name with its address; the size is 0 where the file does not say."""

    name: str
    address: int
    size: int


def build_id(vmlinux: Path) -> str:
    """Return the build id of an ELF file, in hexadecimal.

    UsageError if the file is no ELF file, or has no build id.
    """
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.sections import NoteSection  # noqa: PLC0415

    try:
        with vmlinux.open("rb") as file:
            for section in ELFFile(file).iter_sections("SHT_NOTE"):
                assert isinstance(section, NoteSection)
                for match in re.finditer(re.escape(_NOTE_HEAD) + b"(.{20})", section.data(), re.S):
                    return match[1].hex()
    except OSError as error:
        raise UsageError(f"{vmlinux} can't be read: {error.strerror}") from error
    except (ELFError, ValueError) as error:
        raise UsageError(f"{vmlinux} is not an ELF file: {error}", _WHAT_IT_IS) from error
    raise UsageError(f"{vmlinux} has no build id", _WHAT_IT_IS)


_WHAT_IT_IS = "Expected: the vmlinux that the kernel's build leaves beside its bzImage."


def holds_build_id(image: Path, id: str) -> bool:
    """Whether a kernel that boots, an ELF file or a raw Image, holds this build id.

    A kernel may hold several build ids: its vDSO is a program with one of its own.
    """
    return _NOTE_HEAD + bytes.fromhex(id) in image.read_bytes()


def has_lines(vmlinux: Path) -> bool:
    """Whether a file is an ELF file with DWARF's table of lines."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        with vmlinux.open("rb") as file:
            return ELFFile(file).get_section_by_name(".debug_line") is not None
    except (OSError, ELFError, ValueError):
        return False


def symbols(vmlinux: Path) -> list[Symbol]:
    """Return the functions of an ELF file, and the other symbols of its code."""
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - slow to import

    with vmlinux.open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        if table is None:
            return []
        names = elf.get_section(table["sh_link"])
        return _read(
            file, (table["sh_offset"], table["sh_size"]), (names["sh_offset"], names["sh_size"])
        )


def _read(file: BinaryIO, table: tuple[int, int], names: tuple[int, int]) -> list[Symbol]:
    file.seek(names[0])
    strings = file.read(names[1])
    file.seek(table[0])
    found = []
    for name, info, _, section, address, size in _SYMBOL.iter_unpack(file.read(table[1])):
        if info & 15 in (_OBJECT, _SECTION, _FILE) or section in (_UNDEFINED, _ABSOLUTE):
            continue
        text = strings[name : strings.index(b"\0", name)].decode(errors="replace")
        if text:
            found.append(Symbol(text, address, size))
    return found

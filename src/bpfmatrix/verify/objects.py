"""eBPF objects: which ones are asked for, and what can be told of one before a kernel is booted.

`find` gives the files that the command line or kernels.yaml names, each with its settings;
`inspect` reads one. What is wrong with a file that a user can mend is an `ObjectError`, and no
kernel is booted for it.
"""

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.config.models import VerifyObjects
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Symbol

__all__ = ["Inspected", "ObjectError", "ObjectFile", "find", "inspect"]

_REQUIRES = ".bpfmatrix.requires"
# Sections of subprograms: what is in there is called by programs, and loaded along with them.
_SUBPROGRAMS = (".text",)


class ObjectError(UsageError):
    """A file that is no object of eBPF programs."""


@dataclass(frozen=True)
class ObjectFile:
    """A file, as it is called in results, and what kernels.yaml says of it."""

    name: str
    path: Path
    settings: VerifyObjects


@dataclass(frozen=True)
class Inspected:
    """What an object tells of itself."""

    programs: tuple[str, ...]
    """The C functions that are programs, in the file's order."""
    symbols: frozenset[str]
    """The names of its variables and maps."""
    requires: str
    """What it says that it needs, such as `5.17 bpf_loop`."""


def find(project: Project, given: Sequence[str], built: Sequence[Path] = ()) -> list[ObjectFile]:
    """Return the objects that are asked for, each once; UsageError where there are none.

    `given` are paths and patterns relative to the working directory. Without them it is those of
    `verify:`, and without these the ones that the project `built`.
    """
    declared = project.config.verify.objects
    if given:
        paths = _matching(given, Path.cwd(), "no such file")
    elif declared:
        paths = _matching(
            [entry.path for entry in declared],
            project.root,
            "no such file (verify.objects of kernels.yaml)",
        )
    else:
        paths = list(built)
    if not paths:
        raise UsageError(
            "there is no eBPF object to load",
            "Name some, or declare them under verify: in kernels.yaml.",
        )
    return [ObjectFile(project.relative(p), p, _settings(project, p)) for p in paths]


def _matching(patterns: Iterable[str], folder: Path, complaint: str) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        # The file itself first: brackets may be in its name.
        whole = folder / pattern
        names = [str(whole)] if whole.exists() else _globbed(whole)
        if not names:
            raise UsageError(f"{pattern}: {complaint}", "Build it first, or correct the name.")
        # Not resolved: a link is known by its own name.
        found.update(dict.fromkeys(Path(os.path.normpath(name)) for name in names))
    return list(found)


def _globbed(pattern: Path) -> list[str]:
    return sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - of an absolute pattern


def _settings(project: Project, path: Path) -> VerifyObjects:
    """Return what kernels.yaml says of an object: the first entry that it matches."""
    for entry in project.config.verify.objects:
        whole = os.path.normpath(project.root / entry.path)
        if str(path) == whole or fnmatch.fnmatchcase(str(path), whole):
            return entry
    return VerifyObjects(path=str(path))


def inspect(path: Path, name: str) -> Inspected:
    """Read an object; ObjectError, with its name, says why its programs can't be loaded."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.construct import ConstructError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            if file.read(4) != b"\x7fELF":
                raise ObjectError(
                    f"{name} is no ELF file, so no eBPF object",
                    "Compile it: clang -target bpf -O2 -g -c.",
                )
            elf = ELFFile(file)
            _check_kind(name, elf)
            programs = tuple(dict.fromkeys(_programs(elf)))
            symbols, requires = frozenset(_symbols(elf)), _requires(elf)
    except OSError as error:
        raise ObjectError(f"{name} can't be read: {error.strerror or error}") from error
    except (ELFError, ConstructError, ValueError, KeyError, AttributeError, IndexError) as error:
        # What pyelftools lets pass of an ELF file whose tables lead to nowhere.
        reason = str(error) or type(error).__name__
        raise ObjectError(f"{name} is a damaged ELF file: {reason}", "Build it again.") from error
    if not programs:
        raise ObjectError(
            f'{name} has no eBPF program: no function in a section such as SEC("kprobe")'
        )
    return Inspected(programs, symbols, requires)


def _check_kind(name: str, elf: "ELFFile") -> None:
    machine, kind = elf["e_machine"], elf["e_type"]
    if machine != "EM_BPF":
        # pyelftools gives the number of a machine that it has no name for.
        raise ObjectError(
            f"{name} is no eBPF object: it is built for {str(machine).removeprefix('EM_').lower()}",
            "Compile it with clang -target bpf.",
        )
    if not elf.little_endian:
        raise ObjectError(
            f"{name} is for big-endian machines, and all kernels here are little-endian",
            "Compile it with -target bpfel.",
        )
    if kind != "ET_REL" or elf.elfclass != 64:
        raise ObjectError(f"{name} is eBPF, but no relocatable 64-bit object file")


def _programs(elf: "ELFFile") -> Iterator[str]:
    """Give the functions in sections of code, as libbpf takes them for programs."""
    sections = {
        index: section.name
        for index, section in enumerate(elf.iter_sections())
        if section["sh_flags"] & 0x4 and section["sh_size"]  # SHF_EXECINSTR
    }
    for symbol in _symbol_table(elf):
        section = sections.get(symbol["st_shndx"])
        if symbol["st_info"]["type"] == "STT_FUNC" and section and section not in _SUBPROGRAMS:
            yield symbol.name


def _symbols(elf: "ELFFile") -> Iterator[str]:
    for symbol in _symbol_table(elf):
        if symbol.name and symbol["st_info"]["type"] in ("STT_OBJECT", "STT_NOTYPE"):
            yield symbol.name


def _symbol_table(elf: "ELFFile") -> Iterator["Symbol"]:
    from elftools.elf.sections import SymbolTableSection  # noqa: PLC0415

    for section in elf.iter_sections("SHT_SYMTAB"):
        if isinstance(section, SymbolTableSection):
            yield from section.iter_symbols()


def _requires(elf: "ELFFile") -> str:
    section = elf.get_section_by_name(_REQUIRES)
    data: bytes = section.data() if section else b""
    return data.partition(b"\0")[0].decode(errors="replace")

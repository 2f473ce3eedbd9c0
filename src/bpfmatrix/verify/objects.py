"""eBPF object files: which ones are to be loaded, and what is in them.

`find` returns the files that the command line or kernels.yaml names, each with its settings;
`inspect` reads one. Both raise a `UsageError` for a file that can't be used, so that no kernel is
booted for it.
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

__all__ = ["LoadedObject", "ObjectContents", "ObjectError", "ObjectFile", "find", "inspect"]

_REQUIRES = ".bpfmatrix.requires"
# Functions in these sections are subprograms: they are loaded along with the programs that call
# them.
_SUBPROGRAMS = (".text",)
_SHF_EXECINSTR = 0x4  # System V ABI, "Section Attribute Flags"


class ObjectError(UsageError):
    """A file that is not an object file with eBPF programs."""


@dataclass(frozen=True)
class ObjectFile:
    """An object file, and its settings in kernels.yaml."""

    name: str
    """The name in results: the path relative to kernels.yaml."""
    path: Path
    settings: VerifyObjects


@dataclass(frozen=True)
class ObjectContents:
    """What is in an object file."""

    programs: tuple[str, ...]
    """The names of the C functions that are programs, in the order of the symbol table."""
    symbols: frozenset[str]
    """The names of its variables and maps."""
    requires: str
    """The release that it declares to need, and why, such as `5.17 bpf_loop`; or `""`."""


@dataclass(frozen=True)
class LoadedObject:
    """An object file that a loader is given."""

    name: str
    """The name in results."""
    programs: tuple[str, ...]
    """The names of the programs that are to be loaded."""
    folders: tuple[Path, ...] = ()
    """Where the source files that its BTF names may be; the first is the project's root."""
    loader: str = "libbpf"
    """The loader that loads it."""
    preset: str = ""
    """The name of its preset in kernels.yaml; empty if it has none."""
    label: str = ""
    """What tells it from the other times that the same object is loaded; empty if there is none."""


def find(project: Project, given: Sequence[str], built: Sequence[Path] = ()) -> list[ObjectFile]:
    """Return the object files to load, each once; UsageError if there are none.

    `given` are paths and patterns relative to the working directory. If it is empty, the objects
    under `verify:` in kernels.yaml are taken; if there are none either, those that the project
    `built`.
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
        # A file may have brackets in its name, so it is looked for before a pattern is tried.
        whole = folder / pattern
        names = [str(whole)] if whole.exists() else _globbed(whole)
        if not names:
            raise UsageError(f"{pattern}: {complaint}", "Build it first, or correct the name.")
        # Symbolic links are not resolved, since an object is known by the name that was given.
        found.update(dict.fromkeys(Path(os.path.normpath(name)) for name in names))
    return list(found)


def _globbed(pattern: Path) -> list[str]:
    return sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - of an absolute pattern


def _settings(project: Project, path: Path) -> VerifyObjects:
    """Return the settings of an object: the first entry in kernels.yaml that it matches."""
    for entry in project.config.verify.objects:
        whole = os.path.normpath(project.root / entry.path)
        if str(path) == whole or fnmatch.fnmatchcase(str(path), whole):
            return entry
    return VerifyObjects(path=str(path))


def inspect(path: Path, name: str) -> ObjectContents:
    """Read an object file; ObjectError, with its name, if its programs can't be loaded."""
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
        # pyelftools raises these if a table of the file points outside of it.
        reason = str(error) or type(error).__name__
        raise ObjectError(f"{name} is a damaged ELF file: {reason}", "Build it again.") from error
    if not programs:
        raise ObjectError(
            f'{name} has no eBPF program: no function in a section such as SEC("kprobe")'
        )
    return ObjectContents(programs, symbols, requires)


def _check_kind(name: str, elf: "ELFFile") -> None:
    machine, kind = elf["e_machine"], elf["e_type"]
    if machine != "EM_BPF":
        # For a machine that pyelftools has no name for, this is its number.
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
    """Yield the functions in sections of code, which libbpf takes for programs, too."""
    sections = {
        index: section.name
        for index, section in enumerate(elf.iter_sections())
        if section["sh_flags"] & _SHF_EXECINSTR and section["sh_size"]
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

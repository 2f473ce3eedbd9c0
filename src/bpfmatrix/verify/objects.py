"""eBPF object files: which ones are to be loaded, and what is in them.

`find` returns the files that the command line or kernels.yaml names, each with its settings; a
folder stands for the objects in it. `inspect` reads one file, `inspect_all` many: files that can't
be used are set apart with their reasons, so that the others are loaded all the same.
"""

import glob
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.config.models import VerifyObjects
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.host.documentation import page
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.host.text import counted
from bpfmatrix.payload.declared import REGISTRY_PREFIX, NoObjectsError
from bpfmatrix.payload.ebpf import BIG_ENDIAN
from bpfmatrix.results.verification import RefusedObject

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile
    from elftools.elf.sections import Section

__all__ = [
    "FolderContents",
    "LoadedObject",
    "ObjectContents",
    "ObjectError",
    "ObjectFile",
    "big_endian_twin",
    "contents_of",
    "find",
    "inspect",
    "inspect_all",
]

_REQUIRES = ".bpfmatrix.requires"
# Functions in these sections are subprograms: they are loaded along with the programs that call
# them.
_SUBPROGRAMS = (".text",)
# A symbol of a 64-bit file: st_name, st_info, st_other, st_shndx, st_value, st_size; and the types
# in st_info (System V ABI, "Symbol Table").
_SYMBOL = struct.Struct("<IBBHQQ")
_STT_NOTYPE, _STT_OBJECT, _STT_FUNC = 0, 1, 2
_SHF_EXECINSTR = 0x4  # System V ABI, "Section Attribute Flags"
_ELF = b"\x7fELF"
# What is sometimes called .o and is no ELF file, by its first bytes: LLVM bitcode without and with
# its wrapper (LLVM, "LLVM Bitcode File Format"), and an archive of ar(5).
_OTHER_FORMATS = {
    b"BC\xc0\xde": (
        "LLVM bitcode, no object file",
        "Compile it without -emit-llvm and -flto, or turn it into one: llc -march=bpf "
        "-filetype=obj.",
    ),
    b"\xde\xc0\x17\x0b": (
        "LLVM bitcode, no object file",
        "Compile it without -emit-llvm and -flto.",
    ),
    b"!<ar": ("an archive, no object file", "Name the objects in it, unpacked with ar x."),
}
# In which sections libbpf finds maps: by BTF, by structs of older releases, and struct_ops.
_MAPS = (".maps", "maps")
_STRUCT_OPS = (".struct_ops", ".struct_ops.link")
# e_machine of eBPF, and where a little-endian ELF file has it (System V ABI, "ELF Header").
_EM_BPF_BYTES = ((247).to_bytes(2, "little"), (247).to_bytes(2, "big"))
_MACHINE_FIELD = slice(18, 20)
# How many files are named if none of them can be loaded.
_NAMED_FILES = 20


class ObjectError(UsageError):
    """A file that is not an object file with eBPF programs.

    `reason` says why, without the file's name.
    """

    def __init__(self, name: str, reason: str, advice: str = "") -> None:
        super().__init__(f"{name}: {reason}", advice)
        self.name = name
        self.reason = reason


@dataclass(frozen=True)
class ObjectFile:
    """An object file, and its settings in kernels.yaml."""

    name: str
    """The name in results: the path relative to kernels.yaml."""
    path: Path
    settings: VerifyObjects


@dataclass(frozen=True)
class FolderContents:
    """The files below a folder whose names end in `.o`."""

    objects: tuple[Path, ...]
    """The eBPF objects, and what can't be told to be none, sorted by their paths."""
    others: int
    """How many are ELF files for other machines, as in a folder with all that a project builds."""


@dataclass(frozen=True)
class ObjectContents:
    """What is in an object file."""

    programs: tuple[str, ...]
    """The names of the C functions that are programs, in the order of the symbol table."""
    symbols: frozenset[str]
    """The names of its variables and maps."""
    requires: str
    """The release that it declares to need, and why, such as `5.17 bpf_loop`; or `""`."""
    functions: frozenset[str] = frozenset()
    """The names of its functions, programs and subprograms alike."""
    replaces: frozenset[str] = frozenset()
    """The names of the functions that its `freplace` programs replace."""


@dataclass(frozen=True)
class LoadedObject:
    """An object file that a loader is given."""

    name: str
    """The name in results."""
    programs: tuple[str, ...]
    """The names of the programs that are to be loaded."""
    left_out: frozenset[str] = frozenset()
    """The names of its other programs. A loader may load them all the same, unasked."""
    folders: tuple[Path, ...] = ()
    """Where the source files that its BTF names may be; the first is the project's root."""
    loader: str = "libbpf"
    """The loader that loads it."""
    preset: str = ""
    """The name of its preset in kernels.yaml; empty if it has none."""
    label: str = ""
    """What tells it from the other times that the same object is loaded; empty if there is none."""


def find(
    project: Project,
    given: Sequence[str],
    built: Sequence[Path] = (),
    note: Callable[[str], None] = lambda _: None,
    archs: Collection[str] = (),
    progress: Progress = silent,
) -> list[ObjectFile]:
    """Return the object files to load, each once; NoObjectsError if there are none.

    `given` are paths and patterns relative to the working directory; a folder stands for the
    objects in it, and `oci:NAME` for those of an image, for kernels of the architectures `archs`
    (default: those of the matrix). If it is empty, the objects under `verify:` in kernels.yaml are
    taken; if there are none either, the eBPF objects that the project `built`. `note` is told what
    is in each folder.
    """
    config = project.config
    declared = config.verify.objects
    names = given or [entry.path for entry in declared]
    images = [name for name in names if name.startswith(REGISTRY_PREFIX)]
    patterns = [name for name in names if name not in images]
    if given:
        paths = _matching(patterns, Path.cwd(), "no such file", note)
    elif declared:
        complaint = "no such file (verify.objects of kernels.yaml)"
        paths = _matching(patterns, project.root, complaint, note)
    else:
        # A Makefile may build other objects too, such as those of a program of the host.
        paths = [path for path in built if _is_ebpf(path)]
    if not paths and not images:
        raise NoObjectsError
    entries = [(entry, _files_of(project.root / entry.path)) for entry in declared]
    found = [ObjectFile(project.relative(p), p, _settings(entries, p)) for p in paths]
    for name in dict.fromkeys(map(_image_name, images)):
        # The client of registries is slow to import.
        from bpfmatrix.verify import published_objects  # noqa: PLC0415

        chosen = archs or {config.kernel(id).arch for id in config.matrix_ids}
        published = published_objects.fetch(name, chosen, project.cache, _is_ebpf, progress)
        for each in published:
            alike = (name, each.name, name.partition("#")[0])
            settings = next(
                (
                    x
                    for x in declared
                    if x.path.startswith(REGISTRY_PREFIX) and _image_name(x.path) in alike
                ),
                VerifyObjects(path=name),
            )
            found.append(ObjectFile(each.name, each.path, settings))
    # An object may be named by itself, and by its image too.
    unique: dict[str, ObjectFile] = {}
    for one in found:
        unique.setdefault(one.name, one)
    return list(unique.values())


def _image_name(text: str) -> str:
    """Return the one spelling of an image's name, which may be written as a URL."""
    return REGISTRY_PREFIX + text.removeprefix(REGISTRY_PREFIX).removeprefix("//")


def _matching(
    patterns: Iterable[str], folder: Path, complaint: str, note: Callable[[str], None]
) -> list[Path]:
    found: dict[Path, None] = {}
    for pattern in patterns:
        # A file may have brackets in its name, so it is looked for before a pattern is tried.
        whole = folder / pattern
        names = [str(whole)] if whole.exists() else _globbed(whole)
        if not names:
            raise UsageError(f"{pattern}: {complaint}", "Build it first, or correct the name.")
        # Symbolic links are not resolved, since an object is known by the name that was given.
        for path in (Path(os.path.normpath(name)) for name in names):
            name = os.path.relpath(path, folder)
            found.update(dict.fromkeys(_inside(path, name, note) if path.is_dir() else (path,)))
    return list(found)


def _inside(folder: Path, name: str, note: Callable[[str], None]) -> tuple[Path, ...]:
    found = contents_of(folder)
    others = f"{counted(found.others, 'file')} called *.o for other machines"
    if not found.objects:
        raise UsageError(
            f"{name}: there is no eBPF object in this folder"
            + (f", but {others}" if found.others else ""),
            "Build the objects first, or name another folder.",
        )
    more = f", and {others}, left out" if found.others else ""
    note(f"{name}: {counted(len(found.objects), 'object file')}{more}")
    return found.objects


def contents_of(folder: Path) -> FolderContents:
    """Look for object files in a folder and the folders below it.

    Folders and files that can't be read are passed over, and links to folders are not followed.
    """
    objects, others = [], 0
    for parent, folders, files in os.walk(folder):
        # What is in a folder `bpfeb` is the same objects once more, as `big_endian_twin` says.
        folders[:] = sorted(one for one in folders if one != BIG_ENDIAN)
        for name in sorted(files):
            path = Path(parent, name)
            if name.endswith(".o") and not name.endswith("_bpfeb.o") and path.is_file():
                if _is_for_another_machine(path):
                    others += 1
                else:
                    objects.append(path)
    return FolderContents(tuple(objects), others)


def big_endian_twin(path: Path) -> Path | None:
    """Return the same object, built for big-endian machines; None if there is none.

    It has the same name in the folder `bpfeb` beside it, or is named as bpf2go names the two:
    `x_bpfel.o` and `x_bpfeb.o`.
    """
    candidates = [path.parent / BIG_ENDIAN / path.name]
    if path.stem.endswith("_bpfel"):
        candidates.append(path.with_name(f"{path.stem.removesuffix('_bpfel')}_bpfeb.o"))
    return next((one for one in candidates if one.is_file()), None)


def _is_for_another_machine(path: Path) -> bool:
    machine = _machine(path)
    return len(machine) == 2 and machine not in _EM_BPF_BYTES


def _is_ebpf(path: Path) -> bool:
    return _machine(path) in _EM_BPF_BYTES


def _machine(path: Path) -> bytes:
    """Return the machine that an ELF file is for; less than 2 bytes for any other file."""
    if not path.is_file():  # opening a FIFO would wait
        return b""
    try:
        with path.open("rb") as file:
            head = file.read(_MACHINE_FIELD.stop)
    except OSError:
        return b""
    return head[_MACHINE_FIELD] if head.startswith(_ELF) else b""


def _globbed(pattern: Path) -> list[str]:
    return sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - of an absolute pattern


def _files_of(pattern: Path) -> frozenset[str]:
    """Return the files and folders that an entry in kernels.yaml names."""
    return frozenset(map(os.path.normpath, (str(pattern), *_globbed(pattern))))


def _settings(entries: Iterable[tuple[VerifyObjects, frozenset[str]]], path: Path) -> VerifyObjects:
    """Return the settings of an object: the first entry in kernels.yaml that it matches."""
    for entry, names in entries:
        # The entry may name a folder that the file is in.
        if any(str(each) in names for each in (path, *path.parents)):
            return entry
    return VerifyObjects(path=str(path))


def inspect_all(
    files: Iterable[ObjectFile],
) -> tuple[list[tuple[ObjectFile, ObjectContents]], list[RefusedObject]]:
    """Read object files: those that can be loaded, with their contents, and those that can't.

    ObjectError, that of the file, if there is one file and it can't be loaded. UsageError, which
    names the files, if there are several and none of them can.
    """
    read, errors = [], []
    for one in files:
        try:
            read.append((one, inspect(one.path, one.name)))
        except ObjectError as error:
            errors.append(error)
    if errors and not read:
        if len(errors) == 1:
            raise errors[0]
        shown = [f"{error.name}: {error.reason}" for error in errors[:_NAMED_FILES]]
        more = len(errors) - len(shown)
        raise UsageError(
            f"none of the {len(errors)} files can be loaded:\n       "
            + "\n       ".join([*shown, *([f"... and {more} more"] if more else [])])
        )
    return read, [RefusedObject(error.name, error.reason, error.advice) for error in errors]


def inspect(path: Path, name: str) -> ObjectContents:
    """Read an object file; ObjectError, with its name, if its programs can't be loaded."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.construct import ConstructError  # noqa: PLC0415
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a FIFO would wait
        raise ObjectError(name, "no regular file", "Name an object file.")
    try:
        with path.open("rb") as file:
            _check_format(name, file.read(4))
            elf = ELFFile(file)
            _check_kind(name, elf)
            _check_size(name, elf, path.stat().st_size)
            sections = list(elf.iter_sections())
            symbols = list(_symbols(sections))
            programs = tuple(dict.fromkeys(_programs(sections, symbols)))
            if not programs:
                raise ObjectError(name, *_without_programs(sections))
            requires = _requires(sections)
    except OSError as error:
        raise ObjectError(name, f"can't be read: {error.strerror or error}") from error
    except (
        *(ELFError, ConstructError, ValueError, KeyError, AttributeError, IndexError),
        *(OverflowError, MemoryError),
    ) as error:
        # pyelftools raises these if a table of the file points outside of it, or has a wild size.
        reason = str(error) or type(error).__name__
        raise ObjectError(name, f"a damaged ELF file: {reason}", "Build it again.") from error
    variables = (each for each, kind, _ in symbols if each and kind in (_STT_NOTYPE, _STT_OBJECT))
    return ObjectContents(
        programs,
        frozenset(variables),
        requires,
        frozenset(each for each, kind, _ in symbols if kind == _STT_FUNC),
        frozenset(_replaced(sections)),
    )


def _check_format(name: str, head: bytes) -> None:
    if not head:
        raise ObjectError(name, "empty", "Build it again.")
    if head in _OTHER_FORMATS:
        raise ObjectError(name, *_OTHER_FORMATS[head])
    if head != _ELF:
        raise ObjectError(
            name, "no ELF file, so no eBPF object", "Compile it: clang -target bpf -O2 -g -c."
        )


def _check_kind(name: str, elf: "ELFFile") -> None:
    machine, kind = elf["e_machine"], elf["e_type"]
    if machine != "EM_BPF":
        # For a machine that pyelftools has no name for, this is its number.
        raise ObjectError(
            name,
            f"no eBPF object: it is built for {str(machine).removeprefix('EM_').lower()}",
            "Compile it with clang -target bpf.",
        )
    if not elf.little_endian:
        raise ObjectError(
            name,
            "for big-endian machines, and objects are named by those for little-endian ones",
            "Compile it with -target bpfel, too. For kernels of s390x, the object of the same name "
            f"in the folder bpfeb beside it is taken: see {page('verify.md')}",
        )
    if kind != "ET_REL" or elf.elfclass != 64:
        raise ObjectError(name, "eBPF, but no relocatable 64-bit object file")


def _check_size(name: str, elf: "ELFFile", size: int) -> None:
    """Refuse a file that was cut off: compilers write the table of sections last."""
    end = elf["e_shoff"] + elf.num_sections() * elf["e_shentsize"] if elf["e_shoff"] < size else 0
    if not 0 < end <= size:
        whole = f" of {end:,}" if end else ""
        raise ObjectError(name, f"cut off: it has {size:,}{whole} bytes", "Build it again.")


def _without_programs(sections: Iterable["Section"]) -> tuple[str, str]:
    """Return what an object without programs has instead, and what to do about it."""
    names = {section.name for section in sections if section["sh_size"]}
    if names.intersection(_STRUCT_OPS):
        return (
            "no eBPF program: it has .struct_ops only",
            'Put the functions of the struct into SEC("struct_ops"), each a program.',
        )
    if names.intersection(_MAPS):
        return (
            "no eBPF program: it has maps only",
            "Link it to the object whose programs use them: bpftool gen object.",
        )
    return 'no eBPF program: no function in a section such as SEC("kprobe")', ""


def _symbols(sections: Sequence["Section"]) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the type and the section of each symbol.

    pyelftools would read each symbol by itself, which takes most of the time for many objects.
    """
    for section in sections:
        if section["sh_type"] == "SHT_SYMTAB":
            data, names = section.data(), section.stringtable.data()  # type: ignore[attr-defined]
            whole = len(data) // _SYMBOL.size * _SYMBOL.size
            for at, info, _, place, _, _ in _SYMBOL.iter_unpack(data[:whole]):
                yield names[at : names.index(b"\0", at)].decode(errors="replace"), info & 0xF, place


def _programs(
    sections: Sequence["Section"], symbols: Iterable[tuple[str, int, int]]
) -> Iterator[str]:
    """Yield the functions in sections of code, which libbpf takes for programs, too."""
    code = {
        number
        for number, section in enumerate(sections)
        if section["sh_flags"] & _SHF_EXECINSTR
        and section["sh_size"]
        and section.name
        and section.name not in _SUBPROGRAMS
    }
    for name, kind, place in symbols:
        if kind == _STT_FUNC and place in code:
            yield name


def _replaced(sections: Iterable["Section"]) -> Iterator[str]:
    for section in sections:
        kind, _, function = section.name.removeprefix("?").partition("/")
        if kind.removesuffix(".s") == "freplace":
            yield function


def _requires(sections: Iterable["Section"]) -> str:
    data: bytes = next((each.data() for each in sections if each.name == _REQUIRES), b"")
    return data.partition(b"\0")[0].decode(errors="replace")

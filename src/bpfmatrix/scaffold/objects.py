"""eBPF objects in a project: files that are there, and folders whose make builds some.

A group of objects is named by one pattern if that matches nothing else, or else file by file.
"""

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bpfmatrix.config.value_types import LoaderName
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.scaffold.go_modules import GoModule, is_below
from bpfmatrix.scaffold.makefiles import MAKEFILES, Make, makes_objects
from bpfmatrix.scaffold.tree import Tree, folder_of

__all__ = ["FoundObjects", "MakeFolder", "ObjectGroup", "find"]

# e_machine of eBPF, and where an ELF file has it (System V ABI, "ELF Header").
_EM_BPF_BYTES = (247).to_bytes(2, "little")
_MACHINE_FIELD = slice(18, 20)
# Names by which bpf2go tells for which architecture an object is (cmd/bpf2go/gen/target.go).
_BPF2GO = re.compile(r"_(x86|arm64|riscv|s390|powerpc|arm|loongarch|mips)_bpfel\.o$")
_BPF2GO_NAMES = {"x86": "x86_64", "arm64": "aarch64", "riscv": "riscv64", "powerpc": "ppc64le"}
# Some projects have an object for each of Go's architectures, as in `tracer.ebpf.amd64`.
_OTHER_NAMES = re.compile(r"bpf\.(amd64|arm64|riscv64|ppc64le)$")
_GO_NAMES = {known.go: known.name for known in ARCHITECTURES.values()}
# Objects of tests of loaders, which are not meant to load everywhere.
_NOT_SHIPPED = frozenset({"testdata", "bpfeb", "fixtures"})
_SEC = re.compile(r"\bSEC\s*\(\s*\"")
# How a Makefile has clang compile for eBPF.
_TARGET = re.compile(r"-target[= ]bpf")
_GENERATE = re.compile(r"\bgo generate\b|\bbpf2go\b")
_MANY_FOLDERS = 3


@dataclass(frozen=True)
class ObjectGroup:
    """Objects that one entry of `verify.objects` names."""

    pattern: str
    """A path or a pattern, relative to the project's root."""
    count: int
    """How many there are; 0 before they are built."""
    loader: LoaderName
    """The library that the project seems to load them with."""
    first: str = ""
    """The command that builds them; empty if they are tracked by git."""


@dataclass(frozen=True)
class MakeFolder:
    """A folder whose make leaves objects beside their sources, as `payload.ebpf` wants it."""

    folder: str
    sources: int
    loader: LoaderName = "libbpf"
    tests: tuple[str, ...] = ()
    """The paths of test executables that make leaves there, too."""
    are_static: bool = False


@dataclass(frozen=True)
class FoundObjects:
    """All that was found."""

    groups: tuple[ObjectGroup, ...]
    make: tuple[MakeFolder, ...]
    sources: tuple[str, ...]
    """Sources that nothing was found to build."""


def find(
    tree: Tree,
    arch: str,
    cilium: Sequence[str],
    aya: Sequence[str],
    modules: Iterable[GoModule],
) -> FoundObjects:
    """Look for objects and what builds them; `cilium` and `aya` are folders of their users."""
    makes, sources = makes_objects(tree, ebpf_sources(tree))
    present = [path for path in _objects(tree) if _is_for(path, arch)]
    generated = [folder for module in modules for folder in _generated(module)]
    beside = [one for one in makes if one.output == one.folder]
    made = [_make_folder(one, _loader(one.folder, cilium, aya)) for one in beside]
    made += [
        MakeFolder(folder, 1, "cilium-ebpf") for folder in generated if _generates(tree, folder)
    ]
    # kernels.yaml has room for one such folder. If there is one, its objects need no entry.
    covered = {one.folder for one in made} if len(made) == 1 else set[str]()
    groups: list[ObjectGroup] = []

    def add(pattern: str, count: int, first: str) -> None:
        if not any(_covers(one.pattern, pattern) for one in groups):
            groups.append(ObjectGroup(pattern, count, _loader(pattern, cilium, aya), first))

    wanted = [path for path in present if folder_of(path) not in covered]
    for pattern, count in _patterns(tree, wanted):
        add(pattern, count, _command(tree, pattern, makes, aya) if _is_built(tree, pattern) else "")
    for one in makes:
        # If there are objects, those that are not were not built on purpose.
        if one.folder in covered or any(folder_of(path) == one.output for path in present):
            continue
        for name in one.names or (one.ending,):
            add(_join(one.output, name), 0, one.command)
    for folder in generated:
        if folder not in covered:
            add(_join(folder, "*_bpfel.o"), 0, "")
    known = {*generated, *map(folder_of, present)}
    left = [one for one in sources if folder_of(one) not in known]
    users = (*cilium, *aya)
    return FoundObjects(
        tuple(groups),
        tuple(made[:1]),
        tuple(one for one in left if not any(is_below(one, folder) for folder in users)),
    )


def _make_folder(make: Make, loader: LoaderName) -> MakeFolder:
    tests = tuple(_join(make.folder, name) for name in make.tests)
    return MakeFolder(make.folder, make.sources, loader, tests, make.are_static)


def ebpf_sources(tree: Tree) -> list[str]:
    """Return the eBPF programs in C: `*.bpf.c`, and other files that put functions in sections."""
    found = []
    makefiles = tree.named(*MAKEFILES)
    for_bpf = {folder_of(path) for path in makefiles if _TARGET.search(tree.text(path))}
    for path in tree.ending(".c"):
        if not _NOT_SHIPPED.isdisjoint(path.split("/")):
            continue
        if path.endswith(".bpf.c"):
            found.append(path)
        elif "bpf" in path or "xdp" in path:
            text = tree.text(path)
            if folder_of(path) in for_bpf or (_SEC.search(text) and "bpf_helpers.h" in text):
                found.append(path)
    return found


def _objects(tree: Tree) -> list[str]:
    files = frozenset(tree.files)
    return [
        path
        for path in tree.files
        if (path.endswith(".o") or _OTHER_NAMES.search(path) or "/bpfel-unknown-none/" in path)
        and not path.endswith(("_bpfeb.o", ".d", ".rlib"))
        and _NOT_SHIPPED.isdisjoint(path.split("/"))
        # `bpftool gen object` makes x.bpf.o of x.tmp.bpf.o, which is the same object once more.
        and not (path.endswith(".tmp.bpf.o") and path.replace(".tmp.bpf.o", ".bpf.o") in files)
        and _is_ebpf(tree, path)
    ]


def _is_ebpf(tree: Tree, path: str) -> bool:
    head = tree.head(path, _MACHINE_FIELD.stop)
    return head.startswith(b"\x7fELF") and head[_MACHINE_FIELD] == _EM_BPF_BYTES


def _is_for(path: str, arch: str) -> bool:
    """Whether an object is for an architecture, as far as its name tells."""
    if match := _BPF2GO.search(path):
        return _BPF2GO_NAMES.get(match[1]) == arch
    if match := _OTHER_NAMES.search(path):
        return _GO_NAMES.get(match[1]) == arch
    return True


def _patterns(tree: Tree, wanted: Sequence[str]) -> list[tuple[str, int]]:
    """Return patterns that match these files and no others, each with its number of files."""
    by_ending: dict[str, list[str]] = {}
    for path in wanted:
        by_ending.setdefault(_ending(path), []).append(path)
    found: list[tuple[str, int]] = []
    for ending, paths in by_ending.items():
        folders = sorted({folder_of(path) for path in paths})
        if len(folders) > _MANY_FOLDERS:
            common = os.path.commonpath(folders) if "." not in folders else ""
            pattern = "/".join(filter(None, (glob.escape(common), "**", f"*{ending}")))
            if set(_matching(tree, common, ending)) == set(paths):
                found.append((pattern, len(paths)))
                continue
        for folder in folders:
            inside = [path for path in paths if folder_of(path) == folder]
            names = tree.by_folder[folder]
            alike = [name for name in names if fnmatch.fnmatchcase(name, f"*{ending}")]
            # A second object may come: of this name, it is one of eBPF.
            has_pattern = len(inside) > 1 or ending == ".bpf.o"
            if has_pattern and len(alike) == len(inside):
                found.append((_join(glob.escape(folder), f"*{ending}"), len(inside)))
            else:
                found += [(glob.escape(path), 1) for path in inside]
    return found


def _matching(tree: Tree, common: str, ending: str) -> list[str]:
    return [path for path in tree.ending(ending) if is_below(path, common or ".")]


def _ending(path: str) -> str:
    for ending in ("_bpfel.o", ".bpf.o", ".o"):
        if path.endswith(ending):
            return ending
    return path.rpartition("/")[2]


def _is_built(tree: Tree, pattern: str) -> bool:
    """Whether the files of a pattern are ignored by git, so that something has to build them."""
    return any(fnmatch.fnmatchcase(path, pattern.replace("**/", "*")) for path in tree.built)


def _command(tree: Tree, pattern: str, makes: Sequence[Make], aya: Sequence[str]) -> str:
    for one in makes:
        if is_below(folder_of(pattern), one.output) or is_below(folder_of(pattern), one.folder):
            return one.command
    if any(is_below(pattern, folder) for folder in aya):
        return "cargo build"
    return "make" if tree.named("Makefile") and "Makefile" in tree.by_folder.get(".", ()) else ""


def _loader(path: str, cilium: Sequence[str], aya: Sequence[str]) -> LoaderName:
    if path.endswith("_bpfel.o") or any(is_below(path, folder) for folder in cilium):
        return "cilium-ebpf"
    return "aya" if any(is_below(path, folder) for folder in aya) else "libbpf"


def _covers(pattern: str, other: str) -> bool:
    """Whether a pattern matches what another one would."""
    if pattern == other:
        return True
    before, recursive, name = pattern.partition("**/")
    return bool(recursive) and other.startswith(before) and fnmatch.fnmatchcase(other, f"*{name}")


def _generates(tree: Tree, folder: str) -> bool:
    """Whether make in a folder calls `go generate` or bpf2go."""
    names = set(MAKEFILES) & set(tree.by_folder.get(folder, ()))
    return any(_GENERATE.search(tree.text(_join(folder, name))) for name in names)


def _generated(module: GoModule) -> list[str]:
    """Return the folders in which `go generate` is to make objects."""
    found = [word for command in module.first for word in command.split() if word[:1] == "."]
    return [_join(module.folder, word.removeprefix("./").rstrip("/") or ".") for word in found]


def _join(folder: str, name: str) -> str:
    return os.path.normpath(os.path.join(folder, name))  # noqa: PTH118 - a pattern, not a path

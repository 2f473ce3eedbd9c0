"""Go modules in a project: which of their packages have tests that load eBPF, and build tags."""

import re
from dataclasses import dataclass

from bpfmatrix.scaffold.tree import Tree, folder_of

__all__ = ["GoModule", "find", "folders_with_cilium", "is_below"]

_MODULE = re.compile(r"^module\s+\"?([^\s\"]+)", re.M)
_CILIUM = re.compile(r"^\s*(?:require\s+)?github\.com/cilium/ebpf\s+v", re.M)
_IMPORT = re.compile(r"^\s*(?:import\s+)?(?:[\w.]+\s+)?\"([^\"\s]+)\"", re.M)
_IMPORT_PART = re.compile(r"^import\s*(?:\(.*?^\)|[^(\n]*$)", re.M | re.S)
_CONSTRAINT = re.compile(r"^//go:build\s+(.+)$", re.M)
_GENERATE = re.compile(r"^//go:generate\s.*\bbpf2go\b.*$", re.M)
_TEST = re.compile(r"^func (?:Test|Benchmark|Fuzz|Example)", re.M)
# Libraries that load eBPF.
_LOADERS = ("github.com/cilium/ebpf", "github.com/aquasecurity/libbpfgo")
# Tags that Go sets itself (go/build/constraint, internal/syslist), which nobody has to give.
_GO_TAGS = re.compile(
    r"go1\.\d+|unix|linux|windows|darwin|freebsd|netbsd|openbsd|dragonfly|solaris|illumos|aix|plan9"
    r"|android|ios|js|wasip1|wasm|cgo|gc|gccgo|race|msan|asan|ignore|tools|amd64|386|arm|arm64"
    r"|riscv64|s390x|ppc64|ppc64le|loong64|mips\w*"
)
_MOST_PACKAGES = 20


@dataclass(frozen=True)
class GoModule:
    """A Go module with tests."""

    folder: str
    """The folder of go.mod, relative to the project's root."""
    packages: tuple[str, ...]
    """The packages whose tests are declared, as `go test` takes them."""
    tested: int
    """How many packages have tests."""
    reaching: int
    """How many of them load eBPF, or import a package of the module that does."""
    tags: tuple[str, ...] = ()
    """Build tags that their tests ask for."""
    cgo: bool = False
    """Whether they call C."""
    first: tuple[str, ...] = ()
    """Commands to be run first, such as `go generate`, if what they make is not there."""


@dataclass(frozen=True)
class _Package:
    """One folder of Go files."""

    imports: frozenset[str]
    mentions: bool
    """Whether a test mentions eBPF."""
    is_tested: bool
    tags: frozenset[str]
    cgo: bool


def is_below(path: str, folder: str) -> bool:
    """Whether a path is a folder, or in it."""
    return folder in (".", path) or path.startswith(f"{folder}/")


def folders_with_cilium(tree: Tree) -> list[str]:
    """Return the folders of modules that require cilium/ebpf, or are it."""
    return [
        folder_of(path)
        for path in tree.named("go.mod")
        if _CILIUM.search(text := tree.text(path)) or _name(text) == _LOADERS[0]
    ]


def find(tree: Tree) -> tuple[GoModule, ...]:
    """Return the modules with tests, those with most packages that load eBPF first."""
    folders = [
        folder_of(path) for path in tree.named("go.mod") if "testdata" not in path.split("/")
    ]
    found = [_module(tree, folder, folders) for folder in folders]
    with_tests = [each for each in found if each is not None]
    return tuple(sorted(with_tests, key=lambda one: (-one.reaching, -one.tested, one.folder)))


def _module(tree: Tree, folder: str, modules: list[str]) -> GoModule | None:
    name = _name(tree.text(_join(folder, "go.mod")))
    # A folder with a go.mod of its own is another module.
    inner = [one for one in modules if one != folder and is_below(one, folder)]
    packages: dict[str, _Package] = {}
    generates: list[str] = []
    for where, names in tree.by_folder.items():
        if not is_below(where, folder) or any(is_below(where, one) for one in inner):
            continue
        if _is_ignored(where):
            continue
        texts = {name: tree.text(_join(where, name)) for name in names if name.endswith(".go")}
        if not texts:
            continue
        relative = where if folder == "." else where[len(folder) + 1 :]
        import_path = name if relative in ("", ".") else f"{name}/{relative}"
        packages[import_path] = _package(texts)
        if _lacks_generated(where, names, texts):
            generates.append("./" if import_path == name else f"./{relative}")
    reaching = _reaching(packages)
    tested = sorted(path for path, one in packages.items() if one.is_tested)
    if not tested:
        return None
    chosen = [path for path in tested if path in reaching] or tested
    all_of_them = len(chosen) == len(tested) or len(chosen) > _MOST_PACKAGES
    arguments = ["./..."] if all_of_them else ["." + path.removeprefix(name) for path in chosen]
    change = "" if folder == "." else f"-C {folder} "
    return GoModule(
        folder,
        tuple(arguments),
        len(tested),
        len([path for path in tested if path in reaching]),
        tuple(sorted(frozenset().union(*(packages[path].tags for path in chosen)))),
        any(packages[path].cgo for path in chosen),
        tuple([f"go {change}generate {' '.join(sorted(generates))}"] if generates else []),
    )


def _is_ignored(folder: str) -> bool:
    """Whether `./...` leaves a folder out (`go help packages`)."""
    return any(
        part == "testdata" or part.startswith("_") or (part.startswith(".") and part != ".")
        for part in folder.split("/")
    )


def _name(go_mod: str) -> str:
    match = _MODULE.search(go_mod)
    return match[1] if match else ""


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _package(texts: dict[str, str]) -> _Package:
    tests = {name: text for name, text in texts.items() if name.endswith("_test.go")}
    imports: set[str] = set()
    for text in texts.values():
        for part in _IMPORT_PART.findall(text):
            imports.update(_IMPORT.findall(part))
    with_functions = [text for text in tests.values() if _TEST.search(text)]
    about = [text for text in with_functions if re.search(r"e?bpf", text, re.I)] or with_functions
    needed = frozenset[str]().union(*(_tags(text) for text in about))
    return _Package(
        frozenset(imports),
        any(re.search(r"\be?bpf|bpf\b", text, re.I) for text in tests.values()),
        bool(with_functions),
        needed,
        any('import "C"' in text and not _asks_for_cgo(text) for text in texts.values())
        or _LOADERS[1] in imports,
    )


def _asks_for_cgo(text: str) -> bool:
    """Whether a file is left out without cgo, so that the package may build without it."""
    return any("cgo" in one for one in _CONSTRAINT.findall(text))


def _tags(text: str) -> frozenset[str]:
    """Return the tags that a file's build constraint asks for, besides those that Go sets."""
    match = _CONSTRAINT.search(text.partition("\npackage ")[0])
    if match is None:
        return frozenset()
    words = re.findall(r"!?[\w.]+", match[1].replace("! ", "!"))
    return frozenset(
        word for word in words if not word.startswith("!") and not _GO_TAGS.fullmatch(word)
    )


def _reaching(packages: dict[str, _Package]) -> frozenset[str]:
    """Return the import paths of packages that load eBPF, or import one that does."""
    found = {
        path
        for path, one in packages.items()
        if one.mentions or any(each.startswith(_LOADERS) for each in one.imports)
    }
    while True:
        more = {path for path, one in packages.items() if path not in found and one.imports & found}
        if not more:
            return frozenset(found)
        found |= more


def _lacks_generated(folder: str, names: tuple[str, ...], texts: dict[str, str]) -> bool:
    """Whether a package has bpf2go generate its objects, and they are not there."""
    has_directive = any(_GENERATE.search(text) for text in texts.values())
    return has_directive and not any(name.endswith("_bpfel.o") for name in names)

"""Built test executables of a project, and the runners that its build has for its tests."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bpfmatrix.errors import PayloadError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.payload.elf_facts import ElfFacts
from bpfmatrix.scaffold.cargo import EXEC
from bpfmatrix.scaffold.go_modules import is_below
from bpfmatrix.scaffold.tree import Tree, folder_of

__all__ = ["TestExecutable", "TestRunner", "common_architecture", "find", "runners"]

_BUILT_IN = re.compile(r"build.*|_build|out|bin|dist|cmake-build-.*|tests?|\.output|target", re.I)
_TESTS = re.compile(r"tests?", re.I)
_NAMED_AS_TEST = re.compile(r"(?:^|[._-])(?:tests?|specs?)(?:$|[._-])|^test|tests?$", re.I)
# Files with these ends are made to be executed by hand or not at all.
_NO_TESTS = (".o", ".so", ".a", ".py", ".pl", ".sh", ".cmake", ".rlib", ".d", ".bin")
_ELF = b"\x7fELF"
_EXECUTABLE = ("ET_EXEC", "ET_DYN")
_MACHINES = {known.elf_machine: known.name for known in ARCHITECTURES.values()}


@dataclass(frozen=True)
class TestExecutable:
    """An executable that seems to be a test."""

    __test__ = False  # pytest: no class of tests

    path: str
    arch: str
    is_static: bool


@dataclass(frozen=True)
class TestRunner:
    """A runner that starts a project's tests on the host, such as ctest."""

    __test__ = False

    name: str
    """`ctest` or `meson`."""
    folder: str

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that run its tests on a kernel."""
        folder = shlex.quote(self.folder)
        build = "build" if self.folder == "." else shlex.quote(f"{self.folder}/build")
        if self.name == "meson":
            wrapper = f"--wrapper='{EXEC}' --timeout-multiplier 4"
            return f"meson setup {build} {folder}", f"meson test -C {build} {wrapper}"
        emulator = f"-DCMAKE_CROSSCOMPILING_EMULATOR='{EXEC.replace(' ', ';')}'"
        return f"cmake -S {folder} -B {build} {emulator}", f"ctest --test-dir {build}"


def find(tree: Tree, cargo: Sequence[str]) -> tuple[TestExecutable, ...]:
    """Return the test executables that are built. Those of cargo are left to cargo."""
    found = []
    for path in tree.files:
        folders, name = path.split("/")[:-1], path.rpartition("/")[2]
        if not any(_BUILT_IN.fullmatch(each) for each in folders) or "testdata" in folders:
            continue
        if name.endswith(_NO_TESTS) or not _is_called_test(folders, name):
            continue
        if "target" in folders and any(is_below(path, folder) for folder in cargo):
            continue
        if tree.head(path, 4) == _ELF and tree.is_executable(path):
            found += _read(tree, path)
    return tuple(found)


def _is_called_test(folders: Sequence[str], name: str) -> bool:
    in_tests = bool(folders) and bool(_TESTS.fullmatch(folders[-1]))
    return in_tests or bool(_NAMED_AS_TEST.search(name))


def _read(tree: Tree, path: str) -> list[TestExecutable]:
    try:
        facts = ElfFacts.read(tree.root / path)
    except PayloadError:
        return []
    arch = _MACHINES.get(facts.machine)
    if facts.type not in _EXECUTABLE or arch is None:
        return []
    return [TestExecutable(path, arch, not facts.loader)]


def common_architecture(tests: Sequence[TestExecutable], host: str) -> str:
    """Return the architecture of most of the tests; without tests, that of the host."""
    counts = Counter(test.arch for test in tests)
    return counts.most_common(1)[0][0] if counts and host not in counts else host


def runners(tree: Tree) -> tuple[TestRunner, ...]:
    """Return the outermost folders whose build files declare tests."""
    found: list[TestRunner] = []
    for name, file, call in (
        ("meson", "meson.build", r"^\s*test\s*\("),
        ("ctest", "CMakeLists.txt", r"^\s*(?:add_test|gtest_discover_tests)\s*\("),
    ):
        for path in sorted(tree.named(file), key=lambda each: each.count("/")):
            folder = folder_of(path)
            if any(one.name == name and is_below(folder, one.folder) for one in found):
                continue
            if re.search(call, tree.text(path), re.M | re.I):
                top = _outermost(tree, folder, file)
                found.append(TestRunner(name, top))
    return tuple(dict.fromkeys(found))


def _outermost(tree: Tree, folder: str, file: str) -> str:
    """Return the outermost folder, above this one, that has the build file as all between have."""
    while folder != ".":
        above = folder.rpartition("/")[0] or "."
        if file not in tree.by_folder.get(above, ()):
            break
        folder = above
    return folder

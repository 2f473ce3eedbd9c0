"""Calls of Go for the tests of a module: which packages have tests, and `go test -c`.

`go test -c` builds several packages at once only if their test binaries have different names, and
a binary has the name of the import path's last element. So packages of one name are built by calls
of their own. `go test -exec` would take all packages in one call, but links each of them each time.
"""

import contextlib
import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bpfmatrix.errors import BuildError
from bpfmatrix.host.integrity import Checked, measure, settle
from bpfmatrix.payload.go_record import place
from bpfmatrix.payload.incremental import run, run_for_output

__all__ = ["GoBuild", "GoPackage", "batches"]

# The import path that Go gives to a package of files on the command line.
_OF_FILES = "command-line-arguments"
_MAJOR_VERSION = re.compile(r"v([2-9]|[1-9]\d+)")
# The folder into which Go builds, in the one that has the test binaries. Packages can't have it.
_NEW = ".new"


@dataclass(frozen=True)
class GoPackage:
    """A package with tests: its import path, its name, and the folder of its sources."""

    import_path: str
    name: str
    folder: Path

    @property
    def binary(self) -> str:
        """The name that `go test -c` gives to the test binary (Go's load.DefaultExecName)."""
        path = PurePosixPath(self.import_path)
        if self.import_path == _OF_FILES:  # kernels.yaml names files
            return f"{self.name}.test"
        is_version = len(path.parts) > 1 and _MAJOR_VERSION.fullmatch(path.name)
        return f"{path.parent.name if is_version else path.name}.test"


@dataclass(frozen=True)
class GoBuild:
    """What Go is called with: in the folder of a module, build flags, packages, and variables."""

    go: Path
    module: Path
    flags: Sequence[str]
    patterns: Sequence[str]
    env: Mapping[str, str]

    @property
    def words(self) -> list[str]:
        """All that decides the result, besides the files of the module."""
        return [*self.flags, *self.patterns, *(f"{k}={v}" for k, v in sorted(self.env.items()))]

    def goroot(self) -> str:
        """Return the folder of Go's standard library and tools."""
        return self._ask("env", "GOROOT").strip()

    def packages(self) -> list[GoPackage]:
        """Return the packages that have tests."""
        fields = "ImportPath,Name,Dir,TestGoFiles,XTestGoFiles"
        text = self._ask("list", f"-json={fields}", *self.flags, *self.patterns)
        return [
            GoPackage(one["ImportPath"], one["Name"], Path(one["Dir"]))
            for one in _json_values(text)
            if one.get("TestGoFiles") or one.get("XTestGoFiles")
        ]

    def into(
        self, target: Path, packages: Sequence[GoPackage], known: Mapping[str, Checked]
    ) -> dict[str, Checked]:
        """Build the test binaries of packages into a folder, and remove all others from it.

        `known` are the test binaries that are there, by their import paths. Go leaves those alone
        that are up to date. The result has the checksums of all, by their import paths.
        """
        work = list(enumerate(batches(packages)))
        steps = {
            one.import_path: target / _NEW / str(number) / one.binary
            for number, batch in work
            for one in batch
        }
        with _new_folder(target / _NEW):
            for number, _ in work:
                (target / _NEW / str(number)).mkdir()
            for name in known.keys() & steps.keys():
                (target / place(name)).rename(steps[name])
            _remove_others(target)
            try:
                self._build([(target / _NEW / str(number), batch) for number, batch in work])
            finally:
                for name, step in steps.items():
                    _move(step, target / place(name))
        return {name: _settled(target / place(name), known.get(name)) for name in steps}

    def _build(self, work: Sequence[tuple[Path, Sequence[GoPackage]]]) -> None:
        def build(folder: Path, batch: Sequence[GoPackage]) -> None:
            command = [*(str(self.go), "test", "-c", "-vet=off"), *self.flags, "-o", f"{folder}/"]
            # Not by the patterns, which may match packages without tests: Go also refuses two of
            # one name if these have none. A package of single files has no import path to give.
            of_files = any(one.import_path == _OF_FILES for one in batch)
            named = self.patterns if of_files else [one.import_path for one in batch]
            run([*command, *named], self.module, dict(self.env))

        # The first call has the most packages, and compiles much of what the others need, too.
        build(*work[0])
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda each: build(*each), work[1:]))

    def _ask(self, *words: str) -> str:
        return run_for_output([str(self.go), *words], self.module, dict(self.env))


def batches(packages: Sequence[GoPackage]) -> list[list[GoPackage]]:
    """Divide packages so that no two test binaries of a batch have the same name."""
    found: list[list[GoPackage]] = []
    count: dict[str, int] = defaultdict(int)
    for one in packages:
        number = count[one.binary]
        count[one.binary] += 1
        if number == len(found):
            found.append([])
        found[number].append(one)
    return found


@contextlib.contextmanager
def _new_folder(path: Path) -> Iterator[None]:
    shutil.rmtree(path, ignore_errors=True)  # of a build that was killed
    path.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_others(target: Path) -> None:
    """Remove old test binaries: everything but the record and the new folder."""
    for path in target.iterdir():
        if path.is_dir() and path.name != _NEW:
            shutil.rmtree(path)
        elif not path.name.startswith("."):
            path.unlink()


def _move(source: Path, target: Path) -> None:
    if not source.exists():  # the build failed
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise BuildError(
            f"the test binary {target} can't be written: another one has the path of its "
            "folder, or is below it",
            "Rename one of the two packages.",
        ) from None


def _settled(path: Path, known: Checked | None) -> Checked:
    settle(path)
    return measure(path, known)


def _json_values(text: str) -> Iterator[dict[str, Any]]:
    """Give the values of a text with several JSON values, one after another."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        value, at = decoder.raw_decode(text, at)
        yield value

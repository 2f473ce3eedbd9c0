"""Go's test binaries, built by `go test -c` (`payload.go` in kernels.yaml), and their arguments.

Go is only called when a file of the module changed: `go test -c` takes longer over an unchanged
module than a test takes to run.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.models import GoTests
from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError
from bpfmatrix.host import tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.payload.elf_facts import ElfFacts
from bpfmatrix.payload.go_build import GoBuild
from bpfmatrix.payload.go_record import GoRecord, place
from bpfmatrix.payload.incremental import build_lock, stamp

__all__ = [
    "BuiltTests",
    "GoTestBinary",
    "build_tests",
    "environment",
    "module_key",
    "run_arguments",
]

# With these flags, Go links code in C into the test binary.
_FLAGS_OF_CGO = {"race", "msan", "asan"}


@dataclass(frozen=True)
class GoTestBinary:
    """The test binary of a package: its path, the import path, and the folder of the sources.

    `loader` is the dynamic loader that it needs; empty if it is static.
    """

    path: Path
    package: str
    folder: Path
    loader: str = ""


@dataclass(frozen=True)
class BuiltTests:
    """Test binaries that are now up to date, and whether anything had to be done for that."""

    tests: tuple[GoTestBinary, ...] = ()
    changed: bool = False
    goroot: str = ""
    """The GOROOT of the Go that built them; empty if there are none."""


def environment(arch: str, *, cgo: bool = False) -> dict[str, str]:
    """Return the variables that make Go build executables for a guest's architecture.

    They are static, unless Go may call C.
    """
    return {"CGO_ENABLED": str(int(cgo)), "GOOS": "linux", "GOARCH": ARCHITECTURES[arch].go}


def run_arguments(pattern: str | None) -> list[str]:
    """Return the arguments with which a test binary (Go 1.20 or newer) prints test2json's input."""
    # `go test` passes paniconexit0 too: with it, a test that calls os.Exit(0) does not pass.
    chosen = [f"-test.run={pattern}"] if pattern is not None else []
    return ["-test.v=test2json", "-test.paniconexit0", *chosen]


def build_tests(
    project: Project, arch: str, progress: Progress = silent, *, symbols: bool = False
) -> BuiltTests:
    """Build a test binary for each package of the Go module that has tests, for an architecture.

    Binaries with `symbols` are for a debugger; they have a folder of their own.
    BuildError shows what Go said; NoTestsError if the module has no tests, and ConfigError if
    kernels.yaml names one that does not exist.
    """
    settings = project.config.payload.go
    if settings is None:
        return BuiltTests()
    if not (project.root / settings.module / "go.mod").exists():
        if "go" in project.config.payload.model_fields_set:
            raise _no_module(settings)
        return BuiltTests()
    target = project.state / "build" / (ARCHITECTURES[arch].go + ("-symbols" if symbols else ""))
    target.mkdir(parents=True, exist_ok=True)
    build = _build(project.root / settings.module, settings, arch, symbols=symbols)
    with build_lock(project):
        key = module_key(build.module, build.go, build.words)
        record = GoRecord.read(target)
        intact = record.intact(progress)
        if record.key == key and intact.keys() == record.files.keys():
            if intact != record.files:
                with contextlib.suppress(OSError):  # the files are read again each time
                    dataclasses.replace(record, files=intact).write()
            return _built(record, changed=False)
        progress(f"go test -c in {settings.module}")
        # If the build fails, the files stay: the next build only links what is not up to date.
        dataclasses.replace(record, key="", files=intact).write()
        packages = build.packages()
        if not packages:
            raise _no_tests(settings)
        files = build.into(target, packages, intact)
        folders = {one.import_path: one.folder for one in packages}
        loaders = {name: ElfFacts.read(target / place(name)).loader for name in files}
        record = GoRecord(target, key, build.goroot(), loaders, folders, files)
        record.write()
    return _built(record, changed=True)


def _build(module: Path, settings: GoTests, arch: str, *, symbols: bool) -> GoBuild:
    names = {flag.lstrip("-").split("=")[0] for flag in settings.flags}
    cgo = settings.cgo if settings.cgo is not None else bool(names & _FLAGS_OF_CGO)
    # Without symbol table and DWARF the guest has half as much to read. Stack traces and
    # runtime.FuncForPC do not need them.
    ours = () if symbols or "ldflags" in names else ("-ldflags=-s -w",)
    flags = ("-buildvcs=false", "-tags", ",".join(settings.tags), *ours, *settings.flags)
    # Go takes the working directory from PWD if that names it, perhaps through a symbolic link.
    module = module.resolve()
    env = {**environment(arch, cgo=cgo), "PWD": str(module), **settings.env}
    return GoBuild(tools.require("go", "golang-go"), module, flags, tuple(settings.packages), env)


def _built(record: GoRecord, *, changed: bool) -> BuiltTests:
    tests = (
        GoTestBinary(path, name, record.folders[name], record.loaders[name])
        for name, path in record.paths()
    )
    return BuiltTests(tuple(tests), changed, record.goroot)


def _no_module(settings: GoTests) -> ConfigError:
    return ConfigError(
        f"kernels.yaml: payload.go.module: {settings.module}/go.mod does not exist",
        "Name the folder of go.mod, as in `payload: {go: {module: .}}`, or set payload.go to null.",
    )


def _no_tests(settings: GoTests) -> NoTestsError:
    tags = ",".join(settings.tags)
    return NoTestsError(
        f"kernels.yaml: payload.go: {settings.module} has no tests with the build tags {tags!r}",
        "Name the module and its tags, or set payload.go to null.",
    )


def module_key(module: Path, go: Path, command: Sequence[str]) -> str:
    """Return a checksum of everything that an executable of a Go module is built from.

    With a local `replace` directive or a workspace, a build reads files outside of the module. The
    key is then different each time, so that Go is always called.
    """
    go_mod = (module / "go.mod").read_text()
    replaced = "=> ." in go_mod or "=> /" in go_mod
    workspace = any((folder / "go.work").exists() for folder in (module, *module.parents))
    parts = (
        stamp(_module_files(module)),
        stamp([go.resolve()]),
        list(command),
        sorted((k, v) for k, v in os.environ.items() if k.startswith(("GO", "CGO"))),
        os.urandom(8).hex() if replaced or workspace else "",
    )
    return key_of(parts)


def _module_files(module: Path) -> Iterator[Path]:
    """Give the files of a module. Like Go, ignore folders whose names begin with `.` or `_`.

    This also leaves out what a run writes: `.bpfmatrix`, and Python's `__pycache__`.
    """
    for path in module.iterdir():
        if path.is_file():
            yield path
        elif not path.is_symlink() and path.is_dir() and not path.name.startswith((".", "_")):
            yield from _module_files(path)

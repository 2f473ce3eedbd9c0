"""Go's test binaries, built by `go test -c` (`payload.go` in kernels.yaml), and their arguments.

Go is only called when a file of the module changed: `go test -c` takes longer over an unchanged
module than a test takes to run.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bpfmatrix.config.models import GoTests
from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError
from bpfmatrix.host import records, tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.integrity import Checked, measure, settle
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.payload.incremental import BuiltFiles, build_lock, run, stamp

__all__ = ["build_tests", "environment", "module_key", "run_arguments"]


def environment(arch: str) -> dict[str, str]:
    """Return the variables that make Go build static executables for a guest's architecture."""
    return {"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": ARCHITECTURES[arch].go}


def run_arguments(pattern: str | None) -> list[str]:
    """Return the arguments with which a test binary (Go 1.20 or newer) prints test2json's input."""
    # `go test` passes paniconexit0 too: with it, a test that calls os.Exit(0) does not pass.
    chosen = [f"-test.run={pattern}"] if pattern is not None else []
    return ["-test.v=test2json", "-test.paniconexit0", *chosen]


def build_tests(
    project: Project, arch: str, progress: Progress = silent, *, symbols: bool = False
) -> BuiltFiles:
    """Build one static test binary for each package of the Go module, for an architecture.

    Binaries with `symbols` are for a debugger; they have a folder of their own.
    BuildError shows what Go said; ConfigError if the module has no tests.
    """
    settings = project.config.payload.go
    if settings is None or not (project.root / settings.module / "go.mod").exists():
        return BuiltFiles((), changed=False)
    go = tools.require("go", "golang-go")
    target = project.state / "build" / (ARCHITECTURES[arch].go + ("-symbols" if symbols else ""))
    target.mkdir(parents=True, exist_ok=True)
    module = project.root / settings.module
    command = [
        *(str(go), "test", "-c", "-trimpath", "-buildvcs=false", "-tags", ",".join(settings.tags)),
        # Without symbol table and DWARF the guest has half as much to read. Stack traces and
        # runtime.FuncForPC do not need them.
        *(() if symbols else ("-ldflags=-s -w",)),
        *("-o", f"{target}/", *settings.packages),
    ]
    record = target / "built.json"
    with build_lock(project):
        key = module_key(module, go, command)
        if files := _intact(record, key, progress):
            return BuiltFiles(files, changed=False)
        record.unlink(missing_ok=True)
        for stale in target.glob("*.test"):
            stale.unlink()
        progress(f"go test -c in {settings.module}")
        run(command, module, environment(arch))
        files = tuple(sorted(target.glob("*.test")))
        for file in files:
            settle(file)
        _write(record, key, {file.name: measure(file) for file in files})
    if not files:
        raise _no_tests(settings)
    return BuiltFiles(files, changed=True)


def _intact(record: Path, key: str, progress: Progress) -> tuple[Path, ...]:
    """Return the binaries of a record if it has this key, and none of them changed; else none."""
    data = records.read(record) or {}
    try:
        if data["key"] != key:
            return ()
        known = {name: Checked.from_json(value) for name, value in data["files"].items()}
        found = {name: measure(record.with_name(name), one) for name, one in known.items()}
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return ()
    for name, one in found.items():
        if one.sha256 != known[name].sha256:
            announce(progress, f"{name} changed since it was built; building it again")
            return ()
    if found != known:
        with contextlib.suppress(OSError):  # the files are read again each time
            _write(record, key, found)
    return tuple(record.with_name(name) for name in found)


def _write(record: Path, key: str, files: Mapping[str, Checked]) -> None:
    checked = {name: one.to_json() for name, one in files.items()}
    records.write(record, {"key": key, "files": checked})


def _no_tests(settings: GoTests) -> ConfigError:
    tags = ",".join(settings.tags)
    return ConfigError(
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

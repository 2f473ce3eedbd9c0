"""What is built before a run: eBPF objects by make, test binaries and the loader by Go.

All are incremental. Go is only asked when a file of the module changed: asking it about an
unchanged module would take longer than running a test.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.config.models import GoTests
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError, ConfigError
from bpfmatrix.host import tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.installation import CHECKOUT, PACKAGE
from bpfmatrix.host.locks import locked
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload import extra_files
from bpfmatrix.payload.model import Executable, Payload, executable

__all__ = [
    "Built",
    "go_tests",
    "guest_program",
    "loader",
    "objects",
    "payload",
    "python_lister",
    "requirement",
    "tracer_object",
]

# The section in which an object says what it needs (ebpf/requires.h).
_REQUIRES_SECTION = ".bpfmatrix.requires"
# bpfmatrix's own programs for the guest: their sources where it runs from a checkout, and what a
# wheel holds (hatch_build.py).
_SHIPPED = PACKAGE / "loader"
_UNUSED_LOADER_SECONDS = 7 * 24 * 3600
_SHOWN_LINES = 40
_COMPILERS = ("clang", *(f"clang-{version}" for version in range(17, 30)))


@dataclass(frozen=True)
class Built:
    """Files that are now up to date, and whether anything had to be done for that."""

    files: tuple[Path, ...]
    changed: bool


def objects(project: Project, progress: Progress = silent, ask_make: bool = False) -> Built:
    """Build the eBPF objects with `make`; BuildError shows what the compiler said.

    `make` is only run if a file of the folder, or one that its `*.d` files name, changed since it
    ran last, or if `ask_make`: its own look at an unchanged folder takes 0.1 s.
    """
    folder = project.config.payload.ebpf
    if folder is None or not (project.root / folder).is_dir():
        return Built((), changed=False)
    make = tools.require("make", "make")
    where, record = project.root / folder, project.state / "build" / "ebpf.json"
    with locked(project.state / "build.lock"):
        before = _make_key(where)
        if not ask_make and before and _read_record(record).get("key") == before:
            return Built(tuple(sorted(where.glob("*.o"))), changed=False)
        progress(f"make -C {folder}")
        jobs = str(os.cpu_count() or 1)
        _run([str(make), "--no-print-directory", "-j", jobs, "-C", str(where)], project.root)
        files, after = tuple(sorted(where.glob("*.o"))), _make_key(where)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({"key": after}))
    if not files:
        raise BuildError(f"make -C {folder} left no *.o file in {folder}")
    return Built(files, changed=before != after)


def _make_key(folder: Path) -> str:
    """Return what the objects in a folder depend on, as its files and its `*.d` files tell.

    Empty where no `*.d` file tells: then only make knows.
    """
    depends = [path.read_text().replace("\\\n", " ") for path in folder.glob("*.d")]
    if not depends:
        return ""
    named = {folder / word for text in depends for word in text.split() if word[-1:] != ":"}
    files = {path for path in (*named, *folder.iterdir()) if path.is_file()}
    compiler = [tool.resolve() for name in _COMPILERS if (tool := tools.find(name))]
    return key_of(_stamp({*files, *compiler}))


def go_tests(
    project: Project, arch: str, progress: Progress = silent, *, symbols: bool = False
) -> Built:
    """Build one static test binary for each package of the Go module, for an architecture.

    Those with `symbols` are for a debugger, and lie elsewhere.
    """
    settings = project.config.payload.go
    if settings is None or not (project.root / settings.module / "go.mod").exists():
        return Built((), changed=False)
    go = tools.require("go", "golang-go")
    target = project.state / "build" / (ARCHITECTURES[arch].go + ("-symbols" if symbols else ""))
    target.mkdir(parents=True, exist_ok=True)
    module = project.root / settings.module
    command = [
        *(str(go), "test", "-c", "-trimpath", "-buildvcs=false", "-tags", ",".join(settings.tags)),
        # No symbol table and no DWARF: half the size to read in the guest. Stack traces and
        # runtime.FuncForPC do not need them.
        *(() if symbols else ("-ldflags=-s -w",)),
        *("-o", f"{target}/", *settings.packages),
    ]
    record = target / "built.json"
    with locked(project.state / "build.lock"):
        key = _go_key(project, module, go, command)
        known = _read_record(record)
        files = tuple(target / name for name in known.get("files", ()))
        if known.get("key") == key and files and all(file.exists() for file in files):
            return Built(files, changed=False)
        record.unlink(missing_ok=True)
        for stale in target.glob("*.test"):
            stale.unlink()
        progress(f"go test -c in {settings.module}")
        _run(command, module, _go_environment(arch))
        files = tuple(sorted(target.glob("*.test")))
        record.write_text(json.dumps({"key": key, "files": [file.name for file in files]}))
    if not files:
        raise _no_tests(settings)
    return Built(files, changed=True)


def _no_tests(settings: GoTests) -> ConfigError:
    tags = ",".join(settings.tags)
    return ConfigError(
        f"kernels.yaml: payload.go: {settings.module} has no tests with the build tags {tags!r}",
        "Name the module and its tags, or set payload.go to null.",
    )


def loader(project: Project, arch: str, progress: Progress = silent) -> Path:
    """Return the program that loads objects in a guest of this architecture, up to date."""
    return guest_program(project, "bpfload", arch, progress)


def guest_program(project: Project, name: str, arch: str, progress: Progress = silent) -> Path:
    """Return one of bpfmatrix's own programs for a guest of this architecture, up to date.

    Where bpfmatrix runs from a checkout, Go builds it; a wheel brings it along. BuildError where
    there is neither.
    """
    module = CHECKOUT / "support"
    if (module / "cmd" / name).is_dir():
        go = tools.require("go", "golang-go")
        command = _loader_command(go)
        key = _go_key(project, module, go, command)
    else:
        shipped = _SHIPPED / f"{name}-{arch}"
        if not shipped.exists():
            raise BuildError(
                f"this installation of bpfmatrix has no {name} for {arch}",
                "Make its wheel on a machine with Go, or install it from a checkout (pip -e).",
            )
        key = key_of(_stamp([shipped]))
    # Shared, as it is the same for all projects.
    loaders = project.cache.root / "loaders"
    target = loaders / f"{key[:32]}-{name}-{arch}" / name
    with project.cache.lock(f"loader-{name}-{arch}"):
        if target.exists():
            os.utime(target.parent)
            return target
        with project.cache.staging() as staging:
            made = staging / "made"
            made.mkdir()
            if (module / "cmd" / name).is_dir():
                progress(f"go build of {name} for {arch}")
                env = _go_environment(arch)
                _run([*command, "-o", str(made / name), f"./cmd/{name}"], module, env)
            else:
                shutil.copyfile(shipped, made / name)
            (made / name).chmod(0o755)
            loaders.mkdir(parents=True, exist_ok=True)
            made.rename(target.parent)
    for old in loaders.iterdir():
        if old.stat().st_mtime < time.time() - _UNUSED_LOADER_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    return target


def tracer_object(project: Project, progress: Progress = silent) -> Path:
    """Return the eBPF object python_tracer.bpf.o, up to date; BuildError where there is none."""
    folder, name = CHECKOUT / "ebpf", "python_tracer.bpf.o"
    if not (folder / "Makefile").exists():
        if not (_SHIPPED / name).exists():
            raise BuildError(
                f"this installation of bpfmatrix has no {name}",
                "Make its wheel on a machine with clang, or install it from a checkout (pip -e).",
            )
        return _SHIPPED / name
    make = tools.require("make", "make")
    with project.cache.lock("tracer-object"):
        progress(f"make -C {folder} {name}")
        _run([str(make), "--no-print-directory", "-C", str(folder), name], folder)
    return folder / name


def python_lister() -> Path:
    """Return the script that lists the host's Python as a tree of files."""
    inside = CHECKOUT / "support/host_python.py"
    return inside if inside.exists() else _SHIPPED / "host_python.py"


def _loader_command(go: Path) -> list[str]:
    """Return how the loader is built, but for its target and its source."""
    return [str(go), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]


def payload(
    project: Project,
    arch: str,
    binaries: Sequence[Path] = (),
    progress: Progress = silent,
    root: Path | None = None,
    *,
    tests_needed: bool = True,
    symbols: bool = False,
) -> tuple[Payload, bool]:
    """Build and check all that runs in the guest; the bool says whether anything was out of date.

    `binaries` take the place of the tests that kernels.yaml declares; `root` is the tests' root.
    ConfigError where there are no tests and `tests_needed`. With `symbols`, Go's tests are for a
    debugger.
    """
    settings = project.config.payload
    built_objects = objects(project, progress)
    tests: list[Executable] = []
    changed = built_objects.changed
    if binaries:
        tests = [executable(path, arch, root) for path in binaries]
    else:
        built_tests = go_tests(project, arch, progress, symbols=symbols)
        changed = changed or built_tests.changed
        declared = (project.root / path for path in settings.binaries)
        tests = [executable(path, arch, root) for path in (*built_tests.files, *declared)]
    extra = {
        **extra_files.named(project.root, settings.files),
        **extra_files.listed(project, settings.listed, arch, progress),
    }
    if not tests and tests_needed:
        raise ConfigError(
            "there is nothing to run: no Go tests and no binaries",
            "Declare them under payload: in kernels.yaml, or give --binary.",
        )
    return Payload(tuple(tests), built_objects.files, dict(settings.env), extra), changed


def requirement(path: Path) -> str:
    """Return what an eBPF object says that it needs, such as `5.17 bpf_loop`, or nothing."""
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            section = ELFFile(file).get_section_by_name(_REQUIRES_SECTION)
            data: bytes = section.data() if section else b""
    except ELFError as error:
        raise BuildError(f"{path} is no ELF object: {error}", "Build it again.") from error
    return data.partition(b"\0")[0].decode(errors="replace")


def _run(command: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()
        more = [f"... {len(lines) - _SHOWN_LINES} lines more"] if len(lines) > _SHOWN_LINES else []
        name = Path(command[0]).name
        raise BuildError(
            "\n  ".join((f"{name} failed in {folder.name}:", *lines[:_SHOWN_LINES], *more))
        )


def _go_environment(arch: str) -> dict[str, str]:
    """Return the variables by which Go builds static programs for an architecture."""
    return {"CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": ARCHITECTURES[arch].go}


def _stamp(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    stats = ((str(path), path.stat()) for path in sorted(files))
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _go_key(project: Project, module: Path, go: Path, command: Sequence[str]) -> str:
    """Return what the test binaries depend on, as far as files of the module can tell.

    Local `replace` directives and workspaces lead to files elsewhere: with one, the key is of
    this moment, and Go is asked each time.
    """
    go_mod = (module / "go.mod").read_text()
    elsewhere = "=> ." in go_mod or "=> /" in go_mod
    workspace = any((folder / "go.work").exists() for folder in (module, *module.parents))
    parts = (
        _stamp(_go_files(module)),
        _stamp([go.resolve()]),
        list(command),
        sorted((k, v) for k, v in os.environ.items() if k.startswith(("GO", "CGO"))),
        os.urandom(8).hex() if elsewhere or workspace else "",
    )
    return key_of(parts)


def _go_files(module: Path) -> Iterator[Path]:
    """Give the files of a module: Go itself passes over folders that begin with . or _ .

    So what a run leaves behind is none of them, such as our own folder, or Python's `__pycache__`.
    """
    for path in module.iterdir():
        if path.is_file():
            yield path
        elif not path.is_symlink() and path.is_dir() and not path.name.startswith((".", "_")):
            yield from _go_files(path)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def clean(project: Project) -> None:
    """Let the Makefile of the eBPF objects remove what it built."""
    folder = project.config.payload.ebpf
    if folder is not None and (project.root / folder / "Makefile").exists():
        make = tools.require("make", "make")
        _run([str(make), "-C", str(project.root / folder), "clean"], project.root)

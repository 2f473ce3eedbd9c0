"""bpfmatrix's own programs: loaders of eBPF objects, the Python tracer, and the tracer's helpers.

A checkout builds them from their sources (support/cmd, support/loaders, ebpf/). An installation
without these sources takes them from the wheel, into which hatch_build.py puts them.
"""

import contextlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError, KernelUnavailableError, UsageError, suggestion
from bpfmatrix.host import derived, tools
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.documentation import page
from bpfmatrix.host.installation import CHECKOUT, PACKAGE
from bpfmatrix.host.integrity import touch
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload import go
from bpfmatrix.payload.incremental import run, stamp
from bpfmatrix.payload.loaders import aya_loader, libbpf_loader, sysroot

__all__ = [
    "LEFT_OUT",
    "LOADERS",
    "PROGRAMS",
    "Program",
    "build",
    "bytecode_lines",
    "guest_program",
    "has_sources",
    "left_out",
    "loader",
    "python_lister",
    "supervisor",
    "tracer_object",
]

LEFT_OUT = "left-out"
"""The file of a wheel beside its programs that says, in one line, which settings of the build left
programs out. A complete wheel has no such file."""

_SHIPPED = PACKAGE / "loader"
_MODULE = CHECKOUT / "support"
_UNUSED_SECONDS = 7 * 24 * 3600


@dataclass(frozen=True)
class Program:
    """How one of bpfmatrix's own programs is built for an architecture."""

    name: str
    sources: Path
    """The folder of its sources; only a checkout has it."""
    needs: str
    """What a machine needs to build it, for people."""
    architectures: tuple[str, ...]
    """Those that it can be built for."""
    check_tools: Callable[[str], None]
    """Raises ToolMissingError if a tool is missing that its build for an architecture needs."""
    key: Callable[[str], str]
    """Gives a checksum of all that it is built from, for an architecture."""
    build: Callable[[str, Cache, Path, Progress], None]
    """Builds it for an architecture, as the file of the given path."""


def _go_program(name: str) -> Program:
    def command() -> list[str]:
        compiler = tools.require("go", "golang-go")
        return [str(compiler), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]

    def key(arch: str) -> str:
        return go.module_key(_MODULE, Path(command()[0]), command())

    def check_tools(arch: str) -> None:
        command()

    def build(arch: str, cache: Cache, made: Path, progress: Progress) -> None:
        progress(f"go build of {name} for {arch}")
        run([*command(), "-o", str(made), f"./cmd/{name}"], _MODULE, go.environment(arch))

    sources = _MODULE / "cmd" / name
    return Program(name, sources, "Go", tuple(ARCHITECTURES), check_tools, key, build)


LOADERS = {
    "libbpf": Program(
        name="loader-libbpf",
        sources=libbpf_loader.SOURCES,
        needs="clang",
        architectures=sysroot.ARCHITECTURES,
        check_tools=libbpf_loader.check_tools,
        key=libbpf_loader.key,
        build=libbpf_loader.build,
    ),
    "cilium-ebpf": _go_program("loader-cilium-ebpf"),
    "aya": Program(
        name="loader-aya",
        sources=aya_loader.SOURCES,
        needs=f"cargo of Rust {'.'.join(map(str, aya_loader.OLDEST_RUST))} or newer, and clang",
        architectures=aya_loader.WRITTEN_FOR,
        check_tools=aya_loader.check_tools,
        key=aya_loader.key,
        build=aya_loader.build,
    ),
}
"""The loaders of `invoke verify`, by the names of their libraries (docs/loaders.md)."""

PROGRAMS = {
    program.name: program
    for program in (_go_program("bpfload"), _go_program("python-tracer"), *LOADERS.values())
}
"""All of these programs, by their names. A wheel has each of them for each architecture that it can
be built for."""


def supervisor(project: Project, arch: str, progress: Progress = silent) -> Path:
    """Return the program that drives the loaders in a guest, up to date; see `guest_program`."""
    return guest_program(project, "bpfload", arch, progress)


def loader(project: Project, name: str, arch: str, progress: Progress = silent) -> Path:
    """Return the loader of a library, one of LOADERS, for a guest of an architecture, up to date.

    UsageError if there is no such loader; BuildError if there is neither its source nor a built one
    in the wheel, or if it can't be built here: what is missing, and what to do.
    """
    if name not in LOADERS:
        raise UsageError(
            f"there is no loader {name!r}{suggestion(name, LOADERS)}",
            f"There are {', '.join(LOADERS)}.",
        )
    return _obtain(project, LOADERS[name], arch, progress)


def guest_program(project: Project, name: str, arch: str, progress: Progress = silent) -> Path:
    """Return one of PROGRAMS for a guest of this architecture, up to date.

    BuildError if there is neither its source nor a built one in the wheel.
    """
    return _obtain(project, PROGRAMS[name], arch, progress)


def _obtain(project: Project, program: Program, arch: str, progress: Progress) -> Path:
    name = program.name
    has_source = program.sources.is_dir()
    shipped = _SHIPPED / f"{name}-{arch}"
    if has_source:
        key = program.key(arch)
    elif shipped.exists():
        key = key_of(stamp([shipped]))
    else:
        raise _absent(f"{name} for {arch}", program, arch)
    # In the cache, since it is the same for all projects.
    programs = project.cache.root / "loaders"
    target = programs / f"{key[:32]}-{name}-{arch}" / name

    def make(made: Path) -> None:
        if has_source:
            build(program, arch, project.cache, made, progress)
        else:
            shutil.copyfile(shipped, made)
        made.chmod(0o755)
        _remove_unused(programs)

    lock = f"making-{name}-{arch}"
    derived.obtain(project.cache, target, f"{name} for {arch}", make, progress, lock=lock)
    touch(target.parent)  # see _remove_unused
    return target


def has_sources() -> bool:
    """Whether this is a checkout, which builds the programs; a wheel has them built."""
    return _MODULE.is_dir()


def left_out() -> str:
    """Return the settings with which this wheel was built to have fewer programs; empty if none."""
    record = _SHIPPED / LEFT_OUT
    return record.read_text(encoding="utf-8").strip() if record.exists() else ""


def _absent(what: str, program: Program | None = None, arch: str = "") -> BuildError:
    """Return the error about a file that neither the wheel nor a checkout has."""
    if program and arch not in program.architectures:
        return BuildError(
            f"there is no {what}",
            f"It is for {', '.join(program.architectures)} only; for objects, --loader chooses "
            "another loader.",
        )
    cause = f": its wheel was built with {settings}" if (settings := left_out()) else ""
    return BuildError(
        f"this installation of bpfmatrix has no {what}{cause}",
        f"Install a complete wheel ({page('install.md')}), or a checkout (pip install -e).",
    )


def build(program: Program, arch: str, cache: Cache, made: Path, progress: Progress) -> None:
    """Build a program from its sources for an architecture, as the file `made`.

    ToolMissingError if a compiler is missing; BuildError with what the compiler said, or if the
    packages that the program is linked with can't be fetched.
    """
    try:
        program.build(arch, cache, made, progress)
    except KernelUnavailableError as error:  # of a package that its libraries come from
        raise BuildError(
            f"{program.name} for {arch} can't be built: {error.what}",
            "It is built once, with libraries that are fetched: try again with a network, or "
            f"install bpfmatrix's wheel, which has it built. {error.advice}".strip(),
        ) from error


def _remove_unused(programs: Path) -> None:
    for old in programs.glob("*"):
        with contextlib.suppress(OSError):
            if old.stat().st_mtime < time.time() - _UNUSED_SECONDS:
                shutil.rmtree(old, ignore_errors=True)


def tracer_object(project: Project, progress: Progress = silent) -> Path:
    """Return the eBPF object python_tracer.bpf.o, up to date; BuildError if there is none."""
    folder, name = CHECKOUT / "ebpf", "python_tracer.bpf.o"
    if not (folder / "Makefile").exists():
        if not (_SHIPPED / name).exists():
            raise _absent(name)
        return _SHIPPED / name
    make = tools.require("make", "make")
    with project.cache.lock("tracer-object"):
        progress(f"make -C {folder} {name}")
        run([str(make), "--no-print-directory", "-C", str(folder), name], folder)
    return folder / name


def python_lister(name: str) -> Path:
    """Return a script that lists files of the host's Python: host_python.py or host_script.py."""
    inside = CHECKOUT / "support" / name
    return inside if inside.exists() else _SHIPPED / name


def bytecode_lines() -> Path:
    """Return the folder that has the package `bytecode_lines`, for PYTHONPATH or `sys.path`.

    It is a distribution of its own, but bpfmatrix does not depend on that: a wheel has a copy in a
    folder where no `import` finds it by accident, so that an installed `bytecode-lines` of another
    version stays as it is.
    """
    inside = CHECKOUT / "bytecode-lines/src"
    return inside if inside.is_dir() else PACKAGE / "vendored"

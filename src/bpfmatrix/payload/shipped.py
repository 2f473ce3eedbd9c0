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
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.installation import CHECKOUT, PACKAGE
from bpfmatrix.host.integrity import touch
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload import go
from bpfmatrix.payload.incremental import run, stamp
from bpfmatrix.payload.loaders import aya_loader, libbpf_loader

__all__ = [
    "LOADERS",
    "Program",
    "build",
    "guest_program",
    "loader",
    "python_lister",
    "supervisor",
    "tracer_object",
]

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
    key: Callable[[str], str]
    """Gives a checksum of all that it is built from, for an architecture."""
    build: Callable[[str, Cache, Path, Progress], None]
    """Builds it for an architecture, as the file of the given path."""


def _go_program(name: str) -> Program:
    def command() -> list[str]:
        # hatch_build.py builds them in the same way.
        compiler = tools.require("go", "golang-go")
        return [str(compiler), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]

    def key(arch: str) -> str:
        return go.module_key(_MODULE, Path(command()[0]), command())

    def build(arch: str, cache: Cache, made: Path, progress: Progress) -> None:
        progress(f"go build of {name} for {arch}")
        run([*command(), "-o", str(made), f"./cmd/{name}"], _MODULE, go.environment(arch))

    return Program(name, _MODULE / "cmd" / name, "Go", key, build)


LOADERS = {
    "libbpf": Program(
        name="loader-libbpf",
        sources=libbpf_loader.SOURCES,
        needs="clang and Debian's apt",
        key=libbpf_loader.key,
        build=libbpf_loader.build,
    ),
    "cilium-ebpf": _go_program("loader-cilium-ebpf"),
    "aya": Program(
        name="loader-aya",
        sources=aya_loader.SOURCES,
        needs=f"cargo of Rust {'.'.join(map(str, aya_loader.OLDEST_RUST))} or newer, and clang",
        key=aya_loader.key,
        build=aya_loader.build,
    ),
}
"""The loaders of `invoke verify`, by the names of their libraries (docs/loaders.md)."""


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
    """Return one of bpfmatrix's own Go programs for a guest of this architecture, up to date.

    BuildError if there is neither its source nor a built one in the wheel.
    """
    return _obtain(project, _go_program(name), arch, progress)


def _obtain(project: Project, program: Program, arch: str, progress: Progress) -> Path:
    name = program.name
    has_source = program.sources.is_dir()
    shipped = _SHIPPED / f"{name}-{arch}"
    if has_source:
        key = program.key(arch)
    elif shipped.exists():
        key = key_of(stamp([shipped]))
    else:
        raise BuildError(
            f"this installation of bpfmatrix has no {name} for {arch}",
            f"Make its wheel on a machine with {program.needs}, or install it from a checkout "
            "(pip -e).",
        )
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
            raise BuildError(
                f"this installation of bpfmatrix has no {name}",
                "Make its wheel on a machine with clang, or install it from a checkout (pip -e).",
            )
        return _SHIPPED / name
    make = tools.require("make", "make")
    with project.cache.lock("tracer-object"):
        progress(f"make -C {folder} {name}")
        run([str(make), "--no-print-directory", "-C", str(folder), name], folder)
    return folder / name


def python_lister() -> Path:
    """Return the script that lists the files of the host's Python for `payload.listed`."""
    inside = CHECKOUT / "support/host_python.py"
    return inside if inside.exists() else _SHIPPED / "host_python.py"

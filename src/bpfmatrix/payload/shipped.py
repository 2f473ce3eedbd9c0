"""bpfmatrix's own programs: the loader and the Python tracer for guests, and the tracer's helpers.

A checkout builds them from their sources (support/cmd, ebpf/). An installation without these
sources takes them from the wheel, into which hatch_build.py puts them.
"""

import contextlib
import shutil
import time
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError
from bpfmatrix.host import derived, tools
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.installation import CHECKOUT, PACKAGE
from bpfmatrix.host.integrity import touch
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload import go
from bpfmatrix.payload.incremental import run, stamp

__all__ = ["guest_program", "loader", "python_lister", "tracer_object"]

_SHIPPED = PACKAGE / "loader"
_MODULE = CHECKOUT / "support"
_UNUSED_SECONDS = 7 * 24 * 3600


def loader(project: Project, arch: str, progress: Progress = silent) -> Path:
    """Return the program that loads objects in a guest of this architecture, up to date."""
    return guest_program(project, "bpfload", arch, progress)


def guest_program(project: Project, name: str, arch: str, progress: Progress = silent) -> Path:
    """Return one of bpfmatrix's own Go programs for a guest of this architecture, up to date.

    BuildError if there is neither its source nor a built one in the wheel.
    """
    has_source = (_MODULE / "cmd" / name).is_dir()
    shipped = _SHIPPED / f"{name}-{arch}"
    command: list[str] = []
    if has_source:
        compiler = tools.require("go", "golang-go")
        # hatch_build.py builds them in the same way.
        command = [str(compiler), "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
        key = go.module_key(_MODULE, compiler, command)
    elif shipped.exists():
        key = key_of(stamp([shipped]))
    else:
        raise BuildError(
            f"this installation of bpfmatrix has no {name} for {arch}",
            "Make its wheel on a machine with Go, or install it from a checkout (pip -e).",
        )
    # In the cache, since it is the same for all projects.
    programs = project.cache.root / "loaders"
    target = programs / f"{key[:32]}-{name}-{arch}" / name

    def make(made: Path) -> None:
        if has_source:
            progress(f"go build of {name} for {arch}")
            run([*command, "-o", str(made), f"./cmd/{name}"], _MODULE, go.environment(arch))
        else:
            shutil.copyfile(shipped, made)
        made.chmod(0o755)
        _remove_unused(programs)

    derived.obtain(project.cache, target, f"{name} for {arch}", make, progress)
    touch(target.parent)  # see _remove_unused
    return target


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

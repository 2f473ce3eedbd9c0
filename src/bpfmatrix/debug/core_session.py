"""`bpfmatrix debug --core`: gdb with the memory of a guest that panicked, and no machine."""

import contextlib
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

from bpfmatrix import kernels
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.debug.ending import failure_of_gdb
from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.debug.options import DebugOptions
from bpfmatrix.debug.own_folder import own_folder
from bpfmatrix.errors import UsageError
from bpfmatrix.host import event_loop
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels import KernelImage, symbols
from bpfmatrix.kernels.formats import guest_core
from bpfmatrix.kernels.formats.guest_core import GuestCore
from bpfmatrix.kernels.symbols import Symbols, elf
from bpfmatrix.session.observer import Observer

__all__ = ["open_core"]


def open_core(
    project: Project,
    file: Path,
    id: str | None,
    options: DebugOptions,
    observer: Observer,
    progress_bar: Callable[[], contextlib.AbstractContextManager[Progress]],
) -> int:
    """Open a core file of a guest's memory in gdb, and return gdb's exit status.

    `id` is the kernel's in kernels.yaml; if it is None, it is found by the release that the core
    names. UsageError for a file that is no core of a guest, or is one of an unknown kernel.
    BpfmatrixError if gdb is killed, or a command of `batch` fails.
    """
    with contextlib.ExitStack() as stack:
        unpacked = stack.enter_context(project.cache.staging()) / "vmcore"
        with progress_bar() as progress:
            guest_core.unpack(file, unpacked, progress)
        core = guest_core.read(unpacked, file)
        ranges = guest_core.for_gdb(unpacked, core, file)
        observer.step("", "core", f"{core.release} ({core.arch})", f"{ranges} ranges of memory")
        with progress_bar() as progress:
            found = _symbols(project, core, file, id, options, observer, progress)
        if core.build_id and found.has_types and elf.build_id(found.vmlinux) != core.build_id:
            raise UsageError(
                f"{found.vmlinux} is of another build than the kernel of {file}: their build ids "
                "differ",
                f"The core's is {core.build_id}. Name the vmlinux of that build with --vmlinux.",
            )
        observer.step("", "symbols", project.relative(found.vmlinux), found.origin)
        folder = stack.enter_context(own_folder(project, "core"))
        gdb = Gdb.find(core.arch, found, project.cache, folder)
        commands = gdb.write_for_core(unpacked, core.offset, options.batch)
        return event_loop.run(_run(gdb, commands, options))


async def _run(gdb: Gdb, commands: Path, options: DebugOptions) -> int:
    batch = options.batch is not None
    async with gdb.running(commands, options.gdb_args, batch=batch) as process:
        status = await process.wait()
    if status in (-signal.SIGINT, 128 + signal.SIGINT):
        raise KeyboardInterrupt
    failure = failure_of_gdb(
        status,
        (),
        options.batch,
        # A core file is stopped from the beginning, and stays so.
        stopped=True,
        report=gdb.batch_report,
        ended="",
        console="",
    )
    if failure:
        raise failure
    return status


def _symbols(
    project: Project,
    core: GuestCore,
    file: Path,
    id: str | None,
    options: DebugOptions,
    observer: Observer,
    progress: Progress,
) -> Symbols:
    """Return the symbols of the core's kernel; UsageError if it is not known which that is."""
    kernel, image = chosen(_known(project), core, id) or (None, None)
    if kernel is None or image is None:
        if options.vmlinux is None:
            raise _unknown(project, core, file, id)
        vmlinux = options.vmlinux.absolute()
        return Symbols(vmlinux, options.source, origin=f"--vmlinux {options.vmlinux}")
    if options.names:
        target = symbols.names_file(project.cache, image)
        if not target.exists():
            raise UsageError(
                f"the names of the functions of {kernel.id} are not known yet",
                f"Boot it once: {command('debug')} --kernel {kernel.id} --names --batch ''.",
            )
        return Symbols(target, None, origin="the kernel's own names", has_types=False)
    return symbols.get(
        *(project.root, kernel, image, project.cache),
        *(options.vmlinux, options.source, progress),
        announce=observer.note,
    )


def _known(project: Project) -> list[tuple[KernelConfig, KernelImage]]:
    """Return the kernels of the project that are cached, with their images."""
    configs = [project.config.kernel(id) for id in project.config.kernels]
    found = [(kernel, kernels.cached(kernel, project.cache)) for kernel in configs]
    return [(kernel, image) for kernel, image in found if image is not None]


def chosen(
    known: Sequence[tuple[KernelConfig, KernelImage]], core: GuestCore, id: str | None
) -> tuple[KernelConfig, KernelImage] | None:
    """Return the kernel that a core is of: it has the core's release and architecture, and is the
    one that `id` names, if that is given.
    """
    for kernel, image in known:
        same = (image.release, image.arch) == (core.release, core.arch)
        if same and id in (None, kernel.id):
            return kernel, image
    return None


def _unknown(project: Project, core: GuestCore, file: Path, id: str | None) -> UsageError:
    what = f"{file} is of the kernel {core.release or 'of an unknown release'} ({core.arch})"
    if id is not None:
        return UsageError(f"{what}, which {id} is not", "Leave --kernel out, or name --vmlinux.")
    return UsageError(
        f"{what}, and no kernel of kernels.yaml is at that release",
        "Name its vmlinux with --vmlinux, or run this in the project that wrote the core.",
    )

"""What this machine has of what bpfmatrix needs, and the command that installs what it lacks."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.text import Text

from bpfmatrix import kernels
from bpfmatrix.cli.console import make_console, make_table
from bpfmatrix.config import kernels_lock
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UnreachableError
from bpfmatrix.host import tools, versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.front_end import command
from bpfmatrix.kernels.pinned import pin_of, reason_against, registry_of
from bpfmatrix.payload import shipped
from bpfmatrix.vm import accelerator
from bpfmatrix.vm.limits import EMULATION_FACTOR

__all__ = ["Check", "asked", "checks", "print_checks"]

# A kernel takes 20 to 60 MB to fetch and up to 250 MB unpacked.
_WANTED_BYTES = 1 << 30
_INSTALL = "sudo apt-get install "
_CACHED = "cached"
# How many are named that have the same remedy.
_FEW = 4
# For all sources together. One that is slower than this would keep a person waiting.
_ANSWER_SECONDS = 15.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    found: str
    fine: bool = True
    fix: str = ""
    """If it is not fine: the command that mends it, or what to do."""


@dataclass(frozen=True)
class _Tool:
    """A program that bpfmatrix calls."""

    names: tuple[str, ...]
    """The first of these that is installed is used."""
    package: str
    """Debian's package that has it."""
    version: tuple[str, ...] = ("--version",)
    """The arguments that make it print its version; none if it has no such option."""
    optional_for: str = ""
    """What can't be done without it; nothing if bpfmatrix needs it always."""


_TOOLS = (
    _Tool(("busybox",), "busybox-static", ()),
    _Tool(("mkfs.ext4",), "e2fsprogs", ("-V",)),
    _Tool(("depmod",), "kmod"),
    _Tool(("setpriv",), "util-linux"),
    _Tool(("gdb",), "gdb", optional_for="debugging a kernel"),
)
_LLD = _Tool(("ld.lld-19", "ld.lld"), "lld-19", optional_for="kernels of another architecture")


def checks(project: Project) -> list[Check]:
    """Look at everything. Nothing is fetched or changed; KVM is probed, once for each boot.

    The sources of kernels that are not cached are asked, each with one small request.
    """
    found = [_tool(tool) for tool in _tools(project)]
    if settings := shipped.left_out():
        found.append(Check("programs", f"not all: this wheel was built with {settings}"))
    found += _accelerators(project)
    found.append(_space(project))
    return found + _kernels(project)


def _tools(project: Project) -> Sequence[_Tool]:
    arches = {project.config.kernel(id).arch for id in project.config.kernels}
    known = (ARCHITECTURES[arch] for arch in sorted(arches))
    emulators = (_Tool((one.qemu,), one.qemu_package) for one in known)
    return (*emulators, *_TOOLS, *_compilers(project))


def _compilers(project: Project) -> Sequence[_Tool]:
    """Return what builds bpfmatrix's own programs, in a checkout, and those of the project."""
    payload, checkout = project.config.payload, shipped.has_sources()
    ebpf = payload.ebpf is not None and (project.root / payload.ebpf / "Makefile").exists()
    go = payload.go is not None and (project.root / payload.go.module / "go.mod").exists()
    for_ebpf = "" if checkout or ebpf else "building eBPF objects"
    for_go = "" if checkout or go else "building tests in Go"
    return (
        _Tool(("make",), "make", optional_for=for_ebpf),
        _Tool(("clang-19", "clang"), "clang-19", optional_for=for_ebpf),
        *([_LLD] if checkout else []),
        _Tool(("go",), "golang-go", ("version",), optional_for=for_go),
    )


def _tool(tool: _Tool) -> Check:
    path = next((path for name in tool.names if (path := tools.find(name))), None)
    if path is not None:
        return Check(path.name, f"{_version(path, tool.version)} ({path})".strip())
    found = (
        f"not installed, needed only for {tool.optional_for}" if tool.optional_for else "missing"
    )
    fix = f"{_INSTALL}{tool.package}"
    return Check(tool.names[0], found, fine=bool(tool.optional_for), fix=fix)


def _version(path: Path, arguments: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [path, *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return versions.of_tool(done.stdout + done.stderr)


def _accelerators(project: Project) -> list[Check]:
    wanted = {(k.qemu.accel, k.arch) for k in map(project.config.kernel, project.config.kernels)}
    found = []
    for declared, arch in sorted(wanted):
        qemu = ARCHITECTURES[arch].qemu
        if tools.find(qemu) is None:
            continue
        try:
            chosen = accelerator.choose(
                "auto" if declared == "kvm" else declared, arch, qemu, project.cache
            )
        except BpfmatrixError as error:
            found.append(Check(f"accelerator {arch}", error.what, False, error.advice))
            continue
        fine = declared != "kvm" or chosen.name == "kvm"
        fix = "" if fine else "set qemu.accel to auto in kernels.yaml"
        shown = f"{chosen}, {chosen.detail}" if chosen.detail else str(chosen)
        if chosen.name == "tcg":
            shown += f"; limits of kernels.yaml are {EMULATION_FACTOR:g} times as long"
        found.append(Check(f"accelerator {arch}", shown, fine, fix))
    return found


def _space(project: Project) -> Check:
    folder = project.cache.root
    while not os.path.lexists(folder):
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Check(
        "cache",
        f"{project.cache.root}, {free / (1 << 30):.1f} GiB free",
        fine=free >= _WANTED_BYTES and os.access(folder, os.W_OK),
        fix=f"{command('kernels.prune --all')}, or set BPFMATRIX_CACHE to a folder with space",
    )


def _kernels(project: Project) -> list[Check]:
    """Say of each kernel that it is cached, or else whether its source answers."""
    try:
        kernels_lock.read(project.root)
    except BpfmatrixError as error:
        return [Check("kernels.lock", error.what, False, error.advice)]
    declared = {id: project.config.kernel(id) for id in project.config.kernels}
    found: dict[str, Check] = {}
    missing: dict[str, KernelConfig] = {}
    pinned: dict[str, str] = {}
    for id, kernel in declared.items():
        try:
            if image := kernels.cached(kernel, project.cache):
                known = f"{_CACHED}, {image.description}{_pinned(project, kernel)}"
                found[id] = Check(f"kernel {id}", known)
            else:
                pinned[id] = _pinned(project, kernel)
                missing[id] = kernel
        except BpfmatrixError as error:
            found[id] = Check(f"kernel {id}", error.what, False, error.advice)
    answers = asked({id: partial(kernels.check, missing[id], project.cache) for id in missing})
    found |= {id: _not_cached(missing[id], answers[id], pinned[id]) for id in missing}
    return [found[id] for id in declared]


def _pinned(project: Project, kernel: KernelConfig) -> str:
    """Return what kernels.lock says about a kernel, to be appended; "" if there is no such file."""
    if not kernels_lock.exists(project.root):
        return ""
    if (pin := pin_of(kernel)) is None:
        reason = reason_against(kernel)
        update = command(f"kernels.update --kernel {kernel.id}")
        return f"; not pinned ({reason or update})"
    newest = kernels.newest_available(kernel, project.cache)
    is_newer = newest is not None and newest != pin.packages[0].version
    return f"; pinned to {pin.version}{f', the newest known is {newest}' if is_newer else ''}"


def _not_cached(kernel: KernelConfig, error: BpfmatrixError | None, pinned: str) -> Check:
    name, source = f"kernel {kernel.id}", kernel.source.summary
    if error is None:
        fetch = command(f"kernels.fetch --kernel {kernel.id}")
        if pin_of(kernel) and (registry := registry_of(kernel)):
            source = f"{registry} or {source}"
        return Check(name, f"not fetched yet, {source} answers ({fetch}){pinned}")
    return Check(name, f"not fetched yet: {error.what}", False, error.advice or f"see {source}")


def asked(
    questions: Mapping[str, Callable[[], None]], limit_seconds: float = _ANSWER_SECONDS
) -> dict[str, BpfmatrixError | None]:
    """Ask all at the same time; return the error of each, which is None if it has none.

    Who does not answer within the limit counts as unreachable. Its thread is left behind, and ends
    with this process.
    """
    answers: dict[str, BpfmatrixError | None] = {}

    def ask(name: str, question: Callable[[], None]) -> None:
        error: BpfmatrixError | None = None
        try:
            question()
        except BpfmatrixError as said:
            error = said
        except OSError as said:
            error = BpfmatrixError(str(said))
        answers[name] = error

    threads = [
        threading.Thread(target=ask, args=question, daemon=True) for question in questions.items()
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + limit_seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    late = UnreachableError(
        f"its source did not answer within {limit_seconds:g} s", "Is there a network? Try again."
    )
    return {name: answers.get(name, late) for name in questions}


def print_checks(found: Sequence[Check]) -> bool:
    """Print the checks and what to do, or `ready`; return whether all are fine.

    Missing packages are one command, so that it can be copied as it stands.
    """
    table, console = make_table("", "", "", header=False), make_console()
    for check in found:
        mark = Text("ok", "green") if check.fine else Text("missing", "red")
        table.add_row(mark, check.name, check.found)
    console.print(table)
    broken = [check for check in found if not check.fine]
    packages = [c.fix.removeprefix(_INSTALL) for c in broken if c.fix.startswith(_INSTALL)]
    console.print()
    fixes = [check.fix for check in broken if not check.fix.startswith(_INSTALL)]
    for fix in dict.fromkeys(fixes):
        names = [check.name for check in broken if check.fix == fix]
        console.print(f"{', '.join(names[:_FEW])}{' and others' if names[_FEW:] else ''}: {fix}")
    if packages and tools.find("apt-get"):
        console.print(_INSTALL + " ".join(packages))
    elif packages:
        console.print(f"install, by the names of Debian's packages: {' '.join(packages)}")
    elif not broken:
        known = [check for check in found if check.name.startswith("kernel ")]
        offline = all(check.found.startswith(_CACHED) for check in known)
        console.print("ready" + (", also without a network" if offline else ""))
    return not broken

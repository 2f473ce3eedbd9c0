"""What this machine has of what bpfmatrix needs, and the command that installs what it lacks."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from bpfmatrix import kernels
from bpfmatrix.cli.console import make_console, make_table
from bpfmatrix.config import kernels_lock
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import tools, versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.kernels.pinned import pin_of, reason_against
from bpfmatrix.vm import accelerator
from bpfmatrix.vm.limits import EMULATION_FACTOR

__all__ = ["Check", "checks", "print_checks"]

# A kernel takes 20 to 60 MB to fetch and up to 250 MB unpacked.
_WANTED_BYTES = 1 << 30
_INSTALL = "sudo apt-get install "


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
    _Tool(("make",), "make"),
    _Tool(("clang-19", "clang"), "clang-19"),
    _Tool(("ld.lld-19", "ld.lld"), "lld-19", optional_for="kernels of another architecture"),
    _Tool(("go",), "golang-go", ("version",)),
    _Tool(("apt-get",), "apt", optional_for="kernels of Debian"),
    _Tool(("dpkg-deb",), "dpkg", optional_for="kernels of Debian"),
    _Tool(("gdb",), "gdb", optional_for="debugging a kernel"),
)


def checks(project: Project) -> list[Check]:
    """Look at everything. Nothing is fetched or changed; KVM is probed, once for each boot."""
    found = [_tool(tool) for tool in _tools(project)]
    found += _accelerators(project)
    found.append(_space(project))
    return found + _kernels(project)


def _tools(project: Project) -> Sequence[_Tool]:
    arches = {project.config.kernel(id).arch for id in project.config.kernels}
    known = (ARCHITECTURES[arch] for arch in sorted(arches))
    return (*(_Tool((one.qemu,), one.qemu_package) for one in known), *_TOOLS)


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
        fix="invoke kernels.prune --all, or set BPFMATRIX_CACHE to a folder with space",
    )


def _kernels(project: Project) -> list[Check]:
    try:
        kernels_lock.read(project.root)
    except BpfmatrixError as error:
        return [Check("kernels.lock", error.what, False, error.advice)]
    return [_kernel(project, id) for id in project.config.kernels]


def _kernel(project: Project, id: str) -> Check:
    kernel = project.config.kernel(id)
    try:
        image = kernels.cached(kernel, project.cache)
        pinned = _pinned(project, kernel)
    except BpfmatrixError as error:
        return Check(f"kernel {id}", error.what, False, error.advice)
    if image is None:
        fetch = f"not fetched yet (invoke kernels.fetch --kernel {id})"
        return Check(f"kernel {id}", f"{fetch}{pinned}")
    return Check(f"kernel {id}", f"cached, {image.description}{pinned}")


def _pinned(project: Project, kernel: KernelConfig) -> str:
    """Return what kernels.lock says about a kernel, to be appended; "" if there is no such file."""
    if not kernels_lock.exists(project.root):
        return ""
    if (pin := pin_of(kernel)) is None:
        reason = reason_against(kernel)
        return f"; not pinned ({reason or f'invoke kernels.update --kernel {kernel.id}'})"
    newest = kernels.newest_available(kernel, project.cache)
    is_newer = newest is not None and newest != pin.packages[0].version
    return f"; pinned to {pin.version}{f', the newest known is {newest}' if is_newer else ''}"


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
    for check in broken:
        if not check.fix.startswith(_INSTALL):
            console.print(f"{check.name}: {check.fix}")
    if packages:
        console.print(_INSTALL + " ".join(packages))
    elif not broken:
        console.print("ready")
    return not broken

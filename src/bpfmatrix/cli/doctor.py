"""What this machine has of what bpfmatrix needs, and what to type where something is missing."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix import kernels
from bpfmatrix.config.project import Project
from bpfmatrix.host import tools, versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.vm import accelerator

__all__ = ["Check", "checks"]

# A kernel takes 20 to 60 MB to fetch and up to 250 MB unpacked.
_WANTED_BYTES = 1 << 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `fix` is what to type where it is not `fine`."""

    name: str
    found: str
    fine: bool = True
    fix: str = ""


@dataclass(frozen=True)
class _Tool:
    names: tuple[str, ...]
    package: str
    version: tuple[str, ...] = ("--version",)
    optional_for: str = ""


_TOOLS = (
    _Tool(("busybox",), "busybox-static", ()),
    _Tool(("mkfs.ext4",), "e2fsprogs", ("-V",)),
    _Tool(("depmod",), "kmod"),
    _Tool(("setpriv",), "util-linux"),
    _Tool(("make",), "make"),
    _Tool(("clang-19", "clang"), "clang-19"),
    _Tool(
        ("ld.lld-19", "ld.lld"), "lld-19", optional_for="another architecture than this machine's"
    ),
    _Tool(("go",), "golang-go", ("version",)),
    _Tool(("apt-get",), "apt", optional_for="kernels of Debian"),
    _Tool(("dpkg-deb",), "dpkg", optional_for="kernels of Debian"),
    _Tool(("gdb",), "gdb", optional_for="debugging a kernel"),
)


def checks(project: Project) -> list[Check]:
    """Look at everything; nothing is fetched or changed, but KVM is probed once for each boot."""
    found = [_tool(tool) for tool in _tools(project)]
    found += _accelerators(project)
    found.append(_space(project))
    found += [_kernel(project, id) for id in project.config.kernels]
    return found


def _tools(project: Project) -> Sequence[_Tool]:
    arches = {project.config.kernel(id).arch for id in project.config.kernels}
    known = (ARCHITECTURES[arch] for arch in sorted(arches))
    return (*(_Tool((one.qemu,), one.qemu_package) for one in known), *_TOOLS)


def _tool(tool: _Tool) -> Check:
    path = next((path for name in tool.names if (path := tools.find(name))), None)
    if path is not None:
        return Check(path.name, f"{_version(path, tool.version)} ({path})".strip())
    found = f"missing, needed for {tool.optional_for}" if tool.optional_for else "missing"
    fix = f"sudo apt-get install {tool.package}"
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
        chosen = accelerator.choose(
            "auto" if declared == "kvm" else declared, arch, qemu, project.cache
        )
        fine = declared != "kvm" or chosen.name == "kvm"
        fix = "" if fine else "set qemu.accel to auto in kernels.yaml"
        shown = f"{chosen}, {chosen.detail}" if chosen.detail else str(chosen)
        found.append(Check(f"accelerator {arch}", shown, fine, fix))
    return found


def _space(project: Project) -> Check:
    folder = project.cache.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    return Check(
        "cache",
        f"{project.cache.root}, {free / (1 << 30):.1f} GiB free",
        fine=free >= _WANTED_BYTES and os.access(folder, os.W_OK),
        fix="invoke kernels.prune --all, or set BPFMATRIX_CACHE to a folder with space",
    )


def _kernel(project: Project, id: str) -> Check:
    image = kernels.cached(project.config.kernel(id), project.cache)
    if image is None:
        return Check(f"kernel {id}", f"not fetched yet (invoke kernels.fetch --kernel {id})")
    return Check(f"kernel {id}", f"cached, {image.description}")


def as_json(found: Sequence[Check]) -> str:
    """Return the checks for other programs."""
    return json.dumps([vars(check) for check in found], indent=1)

"""How one kernel gets at the host's files: over virtiofs, or 9p where it has only that.

virtiofs comes first: it is in every kernel of distributions from 5.4 on, also in those for clouds,
which lack 9p.
"""

import platform
from dataclasses import dataclass

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.guest.modules import has_module
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.virtiofs.shares import HostFiles, HostFolder, Transport

__all__ = ["HostFilesPlan", "plan"]

_MODULES: dict[Transport, tuple[str, ...]] = {
    "virtiofs": ("virtiofs",),
    "9p": ("9p", "9pnet_virtio"),
}
_ROOT_TAG = "host0"
# For how long the guest trusts what it was told of a file. Tests write into shares, and so may
# somebody on the host; the root changes rarely, and is asked for a lot.
_SHARE_SECONDS, _ROOT_SECONDS = 1.0, 5.0
# One template is to do for most runs.
_SLOTS = 4


@dataclass(frozen=True)
class HostFilesPlan:
    """What the files of the host take; by itself, nothing."""

    folders: tuple[HostFolder, ...] = ()
    modules: tuple[str, ...] = ()
    """Modules of the kernel that the guest loads."""
    slots: int = 0
    """For how many folders a restored machine has a place; else they are there from the start."""
    commands: tuple[tuple[str, ...], ...] = ()
    """What the guest's init does before the tests."""

    @property
    def description(self) -> str:
        """Say what the guest sees, for people; empty where that is nothing."""
        shown = []
        for folder in self.folders:
            mode = ", which can be written" if folder.writable else ""
            is_root = folder.tag == _ROOT_TAG
            shown.append(f"{folder.path}{' as root' if is_root else ''}{mode}")
        return "; ".join(shown)


def plan(files: HostFiles, image: KernelImage, name: str) -> HostFilesPlan:
    """Say how this kernel sees these files; BpfmatrixError where it can't."""
    if not files:
        return HostFilesPlan()
    if files.is_host and image.arch != platform.machine():
        raise UsageError(
            f"--rootfs host: the host's programs are for {platform.machine()}, and {name} is a "
            f"kernel for {image.arch}",
            f"Give --rootfs the folder of a tree for {image.arch}.",
        )
    transport = _transport(image, name)
    modules, overlay = list(_MODULES[transport]), has_module(image, "overlay")
    if overlay:  # a share alone needs none, but may then have the same template
        modules.append("overlay")
    folders: list[HostFolder] = []
    commands: list[tuple[str, ...]] = []
    if files.root is not None:
        if not overlay:
            raise BpfmatrixError(
                f"{name} ({image.version}) has no overlayfs, which keeps the tests' writes off "
                "the host",
                "Use a kernel with CONFIG_OVERLAY_FS, or --share instead of --rootfs.",
            )
        folders.append(HostFolder(_ROOT_TAG, files.root, False, transport, _ROOT_SECONDS))
        commands.append(("host_root", transport, _ROOT_TAG, str(files.folder)))
    for number, share in enumerate(files.shares, start=1):
        tag = f"host{number}"
        folders.append(HostFolder(tag, share.path, share.writable, transport, _SHARE_SECONDS))
        mode = "rw" if share.writable else "ro"
        commands.append(("host_share", transport, tag, mode, str(share.path)))
    # Where the firmware tells the kernel of a device that comes, that takes milliseconds; PCI's own
    # way takes seconds. QEMU's 9p can only be had from the start.
    slots = 0
    option = ARCHITECTURES[image.arch].hotplug_option
    has_slots = option is not None and image.has_option(option)
    if transport == "virtiofs" and has_slots:
        slots = -(-len(folders) // _SLOTS) * _SLOTS
    waiting = ("host_devices", transport, str(len(folders)))
    return HostFilesPlan(tuple(folders), tuple(modules), slots, (waiting, *commands))


def _transport(image: KernelImage, name: str) -> Transport:
    for transport, modules in _MODULES.items():
        if all(has_module(image, module) for module in modules):
            return transport
    raise BpfmatrixError(
        f"{name} ({image.version}) has neither virtiofs nor 9p, so it can't see the host's files",
        "Use a kernel with CONFIG_VIRTIO_FS, or run without --rootfs and --share.",
    )

"""How the guest of one kernel sees files of the host: over virtiofs, or over 9p.

virtiofs is preferred: from 5.4 on, all kernels of distributions have it, even the cloud kernels,
which lack 9p.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.guest.modules import has_module
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.payload.repository import Repository
from bpfmatrix.rootfs.root import AnyRoot, FolderRoot, Root
from bpfmatrix.virtiofs.shares import HostFiles, HostFolder, Transport

__all__ = ["HostFilesPlan", "plan", "root_of_tests"]

_MODULES: dict[Transport, tuple[str, ...]] = {
    "virtiofs": ("virtiofs",),
    "9p": ("9p", "9pnet_virtio"),
}
_ROOT_TAG = "host0"
# How long the guest caches attributes and names of files. Both the tests and somebody on the host
# may write to a share; the root changes rarely, and is read a lot.
_SHARE_SECONDS, _ROOT_SECONDS = 1.0, 5.0
# The number of slots is a multiple of this, so that most runs can use the same template.
_SLOTS = 4


@dataclass(frozen=True)
class HostFilesPlan:
    """What a machine needs to see files of the host; by default, it sees none."""

    folders: tuple[HostFolder, ...] = ()
    modules: tuple[str, ...] = ()
    """The kernel modules that the guest has to load."""
    slots: int = 0
    """How many folders can be plugged into a restored machine. If it is less than the number of
    folders, the machine can't be restored, and has the folders from its start."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Functions of the guest's init to call before the tests, with their arguments."""
    binds: tuple[tuple[str, str], ...] = ()
    """What init has mounted elsewhere, and the tests have in a root of their own: see `Start`."""

    @property
    def description(self) -> str:
        """What the guest sees, for people; empty if it sees nothing."""
        shown = []
        for folder in self.folders:
            mode = ", which can be written" if folder.writable else ""
            is_root = folder.tag == _ROOT_TAG
            shown.append(f"{folder.path}{' as root' if is_root else ''}{mode}")
        return "; ".join(shown)


def plan(
    files: HostFiles, repository: Repository | None, image: KernelImage, name: str
) -> HostFilesPlan:
    """Return how this kernel sees these files; BpfmatrixError if it can't.

    The files of the repository come with the payload. `name` is the kernel's id, for messages.
    """
    if files.has_root and not has_module(image, "overlay"):
        tools = files.image is not None and files.image.tools
        raise BpfmatrixError(
            f"{name} ({image.version}) has no overlayfs, which the root of "
            f"{'--tools' if tools else 'the tests'} needs for what is written there",
            "Use a kernel with CONFIG_OVERLAY_FS, and its modules beside it, or "
            f"{'leave --tools out' if tools else '--share instead of --rootfs'}.",
        )
    if not files.root and not files.shares:
        return _disks_alone(files, repository)
    if files.is_host and image.arch != platform.machine():
        raise UsageError(
            f"--rootfs host: the host's programs are for {platform.machine()}, and {name} is a "
            f"kernel for {image.arch}",
            f"Give --rootfs an image, such as oci:debian:12, or a folder with a tree for "
            f"{image.arch}.",
        )
    transport = _transport(image, name)
    folders: list[HostFolder] = []
    commands: list[tuple[str, ...]] = []
    binds: list[tuple[str, str]] = []
    if files.root is not None:
        folders.append(HostFolder(_ROOT_TAG, files.root, False, transport, _ROOT_SECONDS))
        commands.append(("host_root", transport, _ROOT_TAG))
    if repository is not None:
        command, own_binds = _repository(repository, files)
        commands.append(command)
        binds += own_binds
    for number, share in enumerate(files.shares, start=1):
        tag = f"host{number}"
        folders.append(HostFolder(tag, share.path, share.writable, transport, _SHARE_SECONDS))
        mode = "rw" if share.writable else "ro"
        target = place = str(share.path)
        if files.has_root:
            target = f"/host/shared/{tag}"
            binds.append((target, place))
        commands.append(("host_share", transport, tag, mode, target))
    # Hotplug takes milliseconds if the firmware reports a new device to the kernel (ACPI), and
    # seconds with the native hotplug of PCI. QEMU can't hotplug a 9p device.
    slots = 0
    option = ARCHITECTURES[image.arch].hotplug_option
    has_slots = option is not None and image.has_option(option)
    if transport == "virtiofs" and has_slots:
        slots = -(-len(folders) // _SLOTS) * _SLOTS
    waiting = ("host_devices", transport, str(len(folders)))
    modules = _MODULES[transport]
    return HostFilesPlan(tuple(folders), modules, slots, (waiting, *commands), tuple(binds))


def _disks_alone(files: HostFiles, repository: Repository | None) -> HostFilesPlan:
    """Return how a guest sees what comes on disks, if no folder of the host is served."""
    if repository is None:
        return HostFilesPlan()
    command, binds = _repository(repository, files)
    return HostFilesPlan(commands=(command,), binds=binds)


def _repository(
    repository: Repository, files: HostFiles
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the command that mounts the repository's files, and how a root of the tests has it."""
    place = str(repository.root)
    if not files.has_root:
        return ("repository", place), ()
    return ("repository", "/host/repository"), (("/host/repository", place),)


def root_of_tests(
    files: HostFiles, arch: str, cache: Cache, progress: Progress, *, reread: bool = False
) -> "Root | None":
    """Return the root of the tests, if it is not the guest's own; an image may be fetched for it.

    BpfmatrixError if it can't be had.
    """
    if files.root is not None:
        return FolderRoot(files.root)
    if files.image is None:
        return None
    if files.image.tools:  # which files it has depends on the kernel
        return AnyRoot()
    # Clients of registries are slow to import.
    from bpfmatrix.rootfs import images  # noqa: PLC0415

    return images.obtain(files.image, arch, cache, progress, reread=reread)


def _transport(image: KernelImage, name: str) -> Transport:
    for transport, modules in _served(image).items():
        if all(has_module(image, module) for module in modules):
            return transport
    if "virtiofs" not in _served(image):
        raise BpfmatrixError(
            f"{name} ({image.version}) has no 9p, so it can't see the host's files",
            "Use a kernel with CONFIG_9P_FS and CONFIG_NET_9P_VIRTIO, or run without --rootfs and "
            "--share.",
        )
    raise BpfmatrixError(
        f"{name} ({image.version}) has neither virtiofs nor 9p, so it can't see the host's files",
        "Use a kernel with CONFIG_VIRTIO_FS, or run without --rootfs and --share.",
    )


def _served(image: KernelImage) -> Mapping[Transport, tuple[str, ...]]:
    """Return the transports that are served to a kernel of this architecture, and their modules.

    FUSE's messages have the byte order of the guest (virtio's specification, 5.11.6.2), and the
    server of virtiofs speaks little-endian only. Those of 9p are little-endian for every guest.
    """
    if ARCHITECTURES[image.arch].big_endian:
        return {"9p": _MODULES["9p"]}
    return _MODULES

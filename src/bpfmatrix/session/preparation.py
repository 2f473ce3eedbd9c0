"""The preparation of a kernel for a guest session.

`prepare` does what needs no machine and may take long: it fetches the kernel, checks it, and packs
the initramfs and the payload's disk. Its result, a `Prepared`, is all that a machine needs.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bpfmatrix import kernels
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.config.settings import Settings
from bpfmatrix.errors import BpfmatrixError, DamagedError
from bpfmatrix.guest import busybox, initramfs, modules_disk
from bpfmatrix.guest.modules import has_module, loadable
from bpfmatrix.host import tools, versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.payload import disk as payload_disk
from bpfmatrix.payload.model import MOUNT_POINT, Executable, Payload
from bpfmatrix.rootfs.spec import RootSpec
from bpfmatrix.session import privileges
from bpfmatrix.session.host_files import HostFilesPlan, plan
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.virtiofs.shares import environment
from bpfmatrix.vm import accelerator, dump, launch, limits, tsc
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.protocol import Job, Start, TestCommand, new_boundary

if TYPE_CHECKING:
    from bpfmatrix.rootfs.images import RootImage

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True)
class Prepared:
    """A kernel that is ready to be booted."""

    kernel: KernelConfig
    image: KernelImage
    accelerator: accelerator.Accelerator
    spec: launch.MachineSpec
    payload: Payload
    payload_id: str
    """The checksum of the payload, with which the guest checks that it got the right disk."""
    env: dict[str, str]
    """The environment variables of the programs that run in the guest."""
    host_files: HostFilesPlan
    """How the guest sees files of the host."""
    privileges: tuple[tuple[str, ...], ...] = ()
    """Functions of the guest's init that set what the kernel allows, with their arguments."""
    options: SessionOptions = field(default_factory=SessionOptions)
    root: "RootImage | None" = None
    """The image that is the root of the tests."""

    def job(self, commands: Sequence[TestCommand]) -> Job:
        """Return the job of running these commands, one after another."""
        boundary = new_boundary() if self.options.core else None
        return Job(tuple(commands), self.payload_id, self.env, self.setup, boundary)

    @functools.cached_property
    def setup(self) -> tuple[tuple[str, ...], ...]:
        """The functions of the guest's init to call before a job, with their arguments."""
        modules = self.spec.modules_disk
        # First, since roots of tests get them too.
        first: list[tuple[str, ...]] = []
        if modules:
            first.append(("all_modules", self.spec.device("modules")))
        if wanted := loadable(self.image, self.kernel.loaded_modules):
            first.append(("require_modules", *wanted))
        if self.root:
            first.append(("disk_root", self.spec.device("root")))
        return (*first, *self.host_files.commands, *self.privileges)

    def start(self, folder: Path | None = None, **settings: Any) -> Start:
        """Return how a command is started in this folder, or else where the user is."""
        files = self.options.files
        place = folder or (files.folder if files.has_root else MOUNT_POINT)
        return Start(str(place), self.host_files.binds, **settings)

    def start_with(self, settings: Settings, folder: Path | None = None) -> Start:
        """Return how a command with these settings is started; `folder` is its own folder.

        BpfmatrixError if the kernel lacks something that the settings name.
        """
        if settings.folder:
            folder = self.kernel.root / settings.folder
        env = self.payload.env
        return self.start(
            folder, **privileges.start_settings(settings, self.kernel, self.image, env)
        )

    def at_its_place(self, test: Executable, start: Start) -> tuple[str, Start]:
        """Return a test's path in the guest, and how it is started there.

        If the guest has the folder of the executable, the executable is there too, so that it finds
        what lies beside it. A Go test binary is not: its package's folder is elsewhere, and `go
        test` runs it from a folder for temporary files.
        """
        packed, place = str(MOUNT_POINT / test.place), test.path.absolute()
        repository = self.payload.repository
        if test.package or not (
            self.options.files.has_root or (repository and repository.contains(place.parent))
        ):
            return packed, start
        binds = (*start.binds, (packed, str(place)))
        return str(place), dataclasses.replace(start, binds=binds)

    @property
    def rootfs(self) -> str:
        """The root file system of the tests, for results; empty if it is that of the guest."""
        files = self.options.files
        if self.root:
            return f"{self.root.name}@{self.root.digest}"
        return "host" if files.is_host else str(files.root or "")

    def limit(self, seconds: float, key: str) -> Limit:
        """Return the limit that a key of kernels.yaml sets, for this machine."""
        return limits.declared(seconds, key, self.accelerator.name)

    @property
    def run_limit(self) -> Limit:
        """The limit of the whole run."""
        return self.limit(self.kernel.timeout.run, "timeout.run")

    @property
    def host_name(self) -> str:
        """The host name of a restored guest (RFC 1123: letters, digits and hyphens)."""
        return "kernel-" + re.sub(r"[^A-Za-z0-9]+", "-", self.kernel.id)


def prepare(
    project: Project,
    kernel: KernelConfig,
    payload: Payload,
    options: SessionOptions,
    observer: Observer,
) -> Prepared:
    """Prepare one kernel for a guest session.

    What is in the cache is checked before it is used, and made or fetched again if it is damaged;
    the observer is told so. If the options ask for a cold boot, each file is read for that.
    BpfmatrixError if the kernel, or something else that the machine needs, can't be provided.
    """
    progress = observer.progress(kernel.id, "kernel")
    image, cached = kernels.provide(kernel, project.cache, progress, reread=options.cold)
    observer.step(kernel.id, "kernel", image.description, "cached" if cached else "fetched")
    try:
        prepared = _assemble(project, kernel, image, payload, options, progress)
    except DamagedError:  # one of the modules, which are only verified when they are packed
        image = kernels.repair(kernel, project.cache, progress)
        prepared = _assemble(project, kernel, image, payload, options, progress)
    _report_host_files(prepared, observer)
    return prepared


def _report_host_files(prepared: Prepared, observer: Observer) -> None:
    id = prepared.kernel.id
    if prepared.root:
        observer.step(id, "rootfs", str(prepared.root), "disk")
    if folders := prepared.spec.folders:
        what = prepared.host_files.description
        observer.step(id, "files", f"the host's {what}", folders[0].transport)


def _assemble(
    project: Project,
    kernel: KernelConfig,
    image: KernelImage,
    payload: Payload,
    options: SessionOptions,
    progress: Progress,
) -> Prepared:
    architecture = ARCHITECTURES[kernel.arch]
    qemu = tools.require(architecture.qemu, architecture.qemu_package)
    host_files = plan(options.files, payload.repository, image, kernel.id)
    allowed = privileges.setup(kernel, image)
    cache, reread = project.cache, options.cold
    root = every_module = None
    if options.files.image:
        root = _root_image(options.files.image, kernel, image, cache, progress, reread=reread)
    if kernel.modules == "all":
        every_module = modules_disk.image_of(image, cache, progress, reread=reread)
    chosen = accelerator.choose(kernel.qemu.accel, kernel.arch, str(qemu), cache, progress)
    disk = payload_disk.image(payload, cache, progress, reread=reread)
    guest_busybox = busybox.executable(kernel.arch, cache, progress)
    wanted = (
        *kernel.loaded_modules,
        *host_files.modules,
        *_network_modules(kernel, image, options),
        *_dump_modules(kernel, image, options),
    )
    spec = launch.MachineSpec(
        qemu=str(qemu),
        arch=kernel.arch,
        accelerator=chosen.name,
        clock_khz=_clock_khz(image, chosen.name, str(qemu), cache),
        cpus=kernel.qemu.cpus,
        memory_bytes=kernel.qemu.memory,
        boot=image.boot,
        initramfs=initramfs.stored(image, guest_busybox, wanted, cache, progress, reread=reread),
        payload=disk.image,
        # The kernel passes this on to init as a variable, since it has no such parameter itself.
        kernel_args=(*kernel.kernel_args, *(["cgroup=v1"] if kernel.cgroup == "v1" else [])),
        extra_args=tuple(kernel.qemu.extra_args),
        boot_limit=limits.declared(kernel.timeout.boot, "timeout.boot", chosen.name),
        folders=host_files.folders,
        network=options.network,
        slots=host_files.slots,
        root_disk=root.path if root else None,
        modules_disk=every_module,
        dump=kernel.dump or options.dump,
    )
    env = _environment(options, payload, root)
    return Prepared(
        kernel, image, chosen, spec, payload, disk.id, env, host_files, allowed, options, root
    )


def _root_image(
    spec: RootSpec,
    kernel: KernelConfig,
    image: KernelImage,
    cache: Cache,
    progress: Progress,
    *,
    reread: bool,
) -> "RootImage":
    # Clients of registries are slow to import.
    from bpfmatrix.rootfs import images, tools  # noqa: PLC0415

    if spec.tools:
        return tools.obtain(kernel, image, cache, progress, reread=reread)
    return images.obtain(spec, kernel.arch, cache, progress, reread=reread)


def _environment(
    options: SessionOptions, payload: Payload, root: "RootImage | None"
) -> dict[str, str]:
    """Return the variables of tests; a later source wins over an earlier one."""
    env = {**environment(options.files, os.environ), **(root.env if root else {})}
    if options.files.is_host and payload.goroot:
        env["PATH"] = f"{payload.goroot}/bin:{env['PATH']}"  # like `go test`
    env |= payload.guest_env()
    return {"GOTRACEBACK": "crash", **env} if options.core else env


def _clock_khz(image: KernelImage, accelerator: str, qemu: str, cache: Cache) -> int:
    """Return the frequency of the processor's clock that the kernel is told, or 0."""
    if accelerator != "tcg" or not ARCHITECTURES[image.arch].known_frequency_parameters:
        return 0
    if versions.numbers(image.release) < tsc.TOLD_SINCE:
        return 0
    return tsc.frequency_khz(qemu, cache)


def _dump_modules(
    kernel: KernelConfig, image: KernelImage, options: SessionOptions
) -> tuple[str, ...]:
    """Return the driver with which the kernel says where it is in its memory, if it is a module."""
    asked = (kernel.dump or options.dump) and kernel.arch in dump.DEVICE_ARCHITECTURES
    return (dump.MODULE,) if asked and has_module(image, dump.MODULE) else ()


def _network_modules(
    kernel: KernelConfig, image: KernelImage, options: SessionOptions
) -> tuple[str, ...]:
    if not options.network:
        return ()
    if not has_module(image, "virtio_net"):
        raise BpfmatrixError(
            f"{kernel.id} ({image.version}) has no virtio_net, so it can't have a network",
            "Use a kernel with CONFIG_VIRTIO_NET, or run without --net user.",
        )
    return ("virtio_net",)

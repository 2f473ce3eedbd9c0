"""Everything that a machine needs, got at hand before it is started.

`prepare` does what may take long and needs no machine: fetch, check, pack.
"""

import os
import re
from dataclasses import dataclass

from bpfmatrix import kernels
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, DamagedError
from bpfmatrix.guest import busybox, initramfs
from bpfmatrix.guest.modules import has_module
from bpfmatrix.host import tools
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.payload import disk as payload_disk
from bpfmatrix.payload.model import Executable, Payload
from bpfmatrix.session.host_files import Plan, plan
from bpfmatrix.session.observer import Listener
from bpfmatrix.session.options import Options
from bpfmatrix.virtiofs.shares import environment
from bpfmatrix.vm import accelerator, launch, template
from bpfmatrix.vm.protocol import Job, TestCommand, new_boundary

__all__ = ["QEMU", "Prepared", "prepare"]

QEMU = {"x86_64": "qemu-system-x86_64", "aarch64": "qemu-system-aarch64"}
_QEMU_PACKAGE = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}


@dataclass(frozen=True)
class Prepared:
    """A kernel that is ready to be booted."""

    kernel: KernelConfig
    image: KernelImage
    accelerator: accelerator.Accelerator
    spec: launch.MachineSpec
    payload_id: str
    tests: tuple[tuple[Executable, TestCommand], ...]
    env: dict[str, str]
    files: Plan
    """How the guest sees files of the host."""
    cores: bool = False
    """Whether core files are kept."""

    @property
    def job(self) -> Job:
        """What the guest is given to do."""
        commands = tuple(command for _, command in self.tests)
        boundary = new_boundary() if self.cores else None
        return Job(commands, self.payload_id, self.env, self.files.commands, boundary)

    @property
    def host_name(self) -> str:
        """What a restored guest calls itself (RFC 1123: letters, digits and hyphens)."""
        return "kernel-" + re.sub(r"[^A-Za-z0-9]+", "-", self.kernel.id)


def prepare(
    project: Project, kernel: KernelConfig, payload: Payload, options: Options, listener: Listener
) -> Prepared:
    """Get everything at hand that a machine needs; BpfmatrixError says what can't be had.

    Where a template of the machine is there, the kernel itself is not looked at: it was booted.
    """
    tests = _commands(payload, options, kernel)
    progress = _Doing(listener, kernel.id, "kernel")
    image = None if options.cold else kernels.cached(kernel, project.cache)
    if image is not None:
        prepared = _assemble(project, kernel, image, payload, tests, options, progress)
        if template.find(prepared.spec, project.cache, prepared.image.label):
            listener.step(kernel.id, "kernel", image.description, "cached")
            _tell_of_files(prepared, listener)
            return prepared
    image, cached = kernels.provide(kernel, project.cache, progress)
    listener.step(kernel.id, "kernel", image.description, "cached" if cached else "fetched")
    try:
        prepared = _assemble(project, kernel, image, payload, tests, options, progress)
    except DamagedError as error:
        progress(f"{error.what}; fetching {kernel.id} again")
        image = kernels.repair(kernel, project.cache, progress)
        prepared = _assemble(project, kernel, image, payload, tests, options, progress)
    if not initramfs.is_intact(prepared.spec.initramfs):
        prepared.spec.initramfs.unlink()
        prepared = _assemble(project, kernel, image, payload, tests, options, progress)
    _tell_of_files(prepared, listener)
    return prepared


def _tell_of_files(prepared: Prepared, listener: Listener) -> None:
    if folders := prepared.spec.folders:
        id, what = prepared.kernel.id, prepared.files.description
        listener.step(id, "files", f"the host's {what}", folders[0].transport)


def _commands(
    payload: Payload, options: Options, kernel: KernelConfig
) -> tuple[tuple[Executable, TestCommand], ...]:
    limit = options.test_seconds or kernel.timeout.test
    commands = payload.commands(options.run, options.arguments)
    if not commands and payload.tests:  # a shell needs none
        raise BpfmatrixError(
            f"--run {options.run!r} matches none of: {', '.join(t.name for t in payload.tests)}",
            "No test ran.",
        )
    return tuple(
        (test, TestCommand(number, argv, limit))
        for number, (test, argv) in enumerate(commands, start=1)
    )


def _assemble(
    project: Project,
    kernel: KernelConfig,
    image: KernelImage,
    payload: Payload,
    tests: tuple[tuple[Executable, TestCommand], ...],
    options: Options,
    progress: Progress,
) -> Prepared:
    qemu = tools.require(QEMU[kernel.arch], _QEMU_PACKAGE[kernel.arch])
    files = plan(options.files, image, kernel.id)
    chosen = accelerator.choose(kernel.qemu.accel, kernel.arch, str(qemu), project.cache)
    disk = payload_disk.image(payload, project.cache)
    guest_busybox = busybox.executable(kernel.arch, project.cache, progress)
    wanted = (*kernel.modules, *files.modules, *_network_modules(kernel, image, options))
    spec = launch.MachineSpec(
        qemu=str(qemu),
        arch=kernel.arch,
        accelerator=chosen.name,
        cpus=kernel.qemu.cpus,
        memory_bytes=kernel.qemu.memory,
        boot=image.boot,
        initramfs=initramfs.stored(image, guest_busybox, wanted, project.cache),
        payload=disk.image,
        kernel_args=tuple(kernel.kernel_args),
        extra_args=tuple(kernel.qemu.extra_args),
        boot_limit_seconds=kernel.timeout.boot,
        folders=files.folders,
        network=options.network,
        slots=files.slots,
    )
    env = {**environment(options.files, os.environ), **payload.guest_env()}
    if options.core:
        env = {"GOTRACEBACK": "crash", **env}
    return Prepared(kernel, image, chosen, spec, disk.id, tests, env, files, options.core)


def _network_modules(kernel: KernelConfig, image: KernelImage, options: Options) -> tuple[str, ...]:
    if not options.network:
        return ()
    if not has_module(image, "virtio_net"):
        raise BpfmatrixError(
            f"{kernel.id} ({image.version}) has no virtio_net, so it can't have a network",
            "Use a kernel with CONFIG_VIRTIO_NET, or run without --net user.",
        )
    return ("virtio_net",)


class _Doing:
    """Turns a library's progress into a listener's."""

    def __init__(self, listener: Listener, kernel: str, name: str) -> None:
        self._say = (listener, kernel, name)

    def __call__(self, text: str, fraction: float | None = None) -> None:
        listener, kernel, name = self._say
        listener.doing(kernel, name, text, fraction)

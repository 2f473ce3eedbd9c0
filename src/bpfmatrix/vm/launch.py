"""How a machine is started: `start` boots one, `restore` resumes one that was saved, and `debugged`
does either for gdb, without which the guest does not begin with its job.

Each gives a `Machine`, and ends it when the context is left.
"""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qemu.qmp import QMPError

from bpfmatrix.errors import MachineError, ToolMissingError
from bpfmatrix.host import sparse
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.process import tied
from bpfmatrix.virtiofs.shares import HostFolder
from bpfmatrix.vm import dump, parts, sandbox
from bpfmatrix.vm.channels import PORTS, Channels, socket_pairs
from bpfmatrix.vm.folders import FolderDevice, served
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.machine import Machine, MachineEndedError
from bpfmatrix.vm.protocol import ProtocolError

__all__ = ["MachineSpec", "RestoreError", "debugged", "machine_parts", "restore", "start"]

# A restored guest answers within 0.1 s; the rest is for hosts that are very busy.
_RESTORE_SECONDS = 10.0


_BOOT_LIMIT = Limit(60.0, "timeout.boot")


@dataclass(frozen=True)
class MachineSpec:
    """Everything that describes a machine."""

    qemu: str
    arch: str
    accelerator: str
    cpus: int
    memory_bytes: int
    boot: Path
    initramfs: Path
    payload: Path
    """The image of the payload's disk."""
    kernel_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    boot_limit: Limit = _BOOT_LIMIT
    folders: tuple[HostFolder, ...] = ()
    """Folders of the host that the guest sees."""
    network: bool = False
    """Whether it has a network card with QEMU's user-mode network."""
    clock_khz: int = 0
    """The frequency of the processor's clock, if the kernel is to be told (see `vm.tsc`)."""
    slots: int = 0
    """How many slots there are for devices of folders. These devices are connections to a server,
    so a machine that has one can't be saved; a restored machine gets them by hot-plug."""
    root_disk: Path | None = None
    """The image of a second disk, which has the tests' root file system."""
    modules_disk: Path | None = None
    """The image of a further disk, which has all modules of the kernel."""
    dump: bool = False
    """Whether a panic, or a guest without a sign of life, leaves a core file of its memory."""

    @property
    def disks(self) -> dict[str, Path]:
        """The images of its disks by their names, in the order in which the guest has them."""
        further = {"root": self.root_disk, "modules": self.modules_disk}
        return {"payload": self.payload, **{k: v for k, v in further.items() if v is not None}}

    def device(self, disk: str) -> str:
        """Return the device of one of its disks in the guest, such as `/dev/vda`."""
        return f"/dev/vd{'abc'[list(self.disks).index(disk)]}"

    def with_disks(self, disks: Mapping[str, Path]) -> "MachineSpec":
        """Return the same machine with other images for its disks."""
        return replace(
            self,
            payload=disks["payload"],
            root_disk=disks.get("root"),
            modules_disk=disks.get("modules"),
        )


class RestoreError(Exception):
    """A saved machine could not be restored; nothing was run in it."""


def machine_parts(
    spec: MachineSpec, fds: dict[str, int], *variant: parts.Part
) -> tuple[parts.Part, ...]:
    """Return the parts of a machine.

    `fds` are QEMU's ends of the channels. `variant` are the parts that depend on how the machine is
    started: its memory, and devices of folders.
    """
    bus = ARCHITECTURES[spec.arch].virtio_bus
    return (
        parts.Board(spec.arch, spec.cpus, stays=spec.dump),
        parts.Processor(spec.arch, spec.accelerator, spec.clock_khz),
        *variant,
        parts.Monitor(fds["qmp"]),
        parts.Console(spec.arch, fds["console"]),
        parts.Ports(tuple((f"bpfmatrix.{name}", fds[name]) for name in PORTS), bus),
        *(parts.Disk(name, image, bus) for name, image in spec.disks.items()),
        *((parts.UserNetwork(bus),) if spec.network else ()),
        parts.Slots(spec.slots),
        *((parts.CoreInfo(),) if spec.dump and spec.arch in dump.DEVICE_ARCHITECTURES else ()),
        parts.Kernel(spec.boot, spec.initramfs, spec.kernel_args),
        parts.ExtraArguments(spec.extra_args),
    )


@contextlib.asynccontextmanager
async def _launched(
    spec: MachineSpec,
    console: Path,
    devices: Sequence[FolderDevice],
    *variant: parts.Part,
    inherited: Sequence[int] = (),
    limited: bool = True,
    held: bool = False,
) -> AsyncIterator[Machine]:
    """Start QEMU, which inherits further descriptors, and end it when the context is left.

    If `variant` has `Incoming`, QEMU is started without the devices: `Machine.load` plugs them in.
    """
    if shutil.which(spec.qemu) is None:
        raise ToolMissingError(f"{spec.qemu} is not installed", "Run ./bootstrap.")
    restored = any(isinstance(part, parts.Incoming) for part in variant)
    present = () if restored else devices
    ends = [device.end for device in present if device.end is not None]
    variant += tuple(device.part for device in present)
    # It is no part of `machine_parts`, because it does not shape the machine that a template saves.
    if not (sandbox.obstacle(spec.qemu) or sandbox.is_set_by(spec.extra_args)):
        variant += (parts.Sandbox(),)
    with socket_pairs() as (ours, theirs), contextlib.ExitStack() as closing:
        for end in ends:
            closing.enter_context(end)
        fds = {name: end.fileno() for name, end in theirs.items()}
        command = parts.command(spec.qemu, machine_parts(spec, fds, *variant))
        if any(isinstance(part, parts.NineP) and part.writable for part in variant):
            from bpfmatrix.virtiofs import confinement  # noqa: PLC0415 - few runs need it

            command = confinement.command(command)
        process = await asyncio.create_subprocess_exec(
            *tied(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(*fds.values(), *inherited, *(end.fileno() for end in ends)),
            # A Ctrl-C at the terminal must reach this process only, which then ends QEMU.
            start_new_session=True,
        )
    channels = Channels(ours)
    machine = Machine(
        process,
        channels,
        console,
        limited=limited,
        held=held,
        dump_to=dump.path_beside(console) if spec.dump else None,
        reports_panics=ARCHITECTURES[spec.arch].panic_device is None,
    )
    try:
        await channels.open()
        machine.watch(devices)
        yield machine
    finally:
        await machine.end()


@contextlib.asynccontextmanager
async def start(
    spec: MachineSpec, console: Path, memory: Path | None = None
) -> AsyncIterator[Machine]:
    """Boot a machine, and give it when it is ready. The kernel's console is appended to a file.

    With `memory`, the guest's memory is that file, which QEMU creates: see `Machine.save`.
    MachineEndedError if the guest does not become ready, MachineError if QEMU does not start.
    """
    shared = memory is not None or bool(spec.folders)
    part = parts.Memory(spec.memory_bytes, memory, shared)
    limit = spec.boot_limit
    bus = ARCHITECTURES[spec.arch].virtio_bus
    async with (
        served(spec.folders, bus) as devices,
        _launched(spec, console, devices, part) as machine,
    ):
        try:
            await asyncio.wait_for(machine.wait_until_ready(), limit.seconds)
        except TimeoutError:
            await machine.dump_if_asked()
            raise MachineEndedError("timeout", f"the kernel was not up after {limit}") from None
        yield machine


@contextlib.asynccontextmanager
async def restore(
    spec: MachineSpec, console: Path, memory: Path, state: Path, host_name: str
) -> AsyncIterator[Machine]:
    """Restore a machine that `Machine.save` saved, and give it when it is ready again.

    Any number of machines may be restored from the same files; none of them changes the files. The
    kernel's console is appended to a file. RestoreError if the machine does not become ready.
    """
    async with contextlib.AsyncExitStack() as stack:
        part, inherited = _restored_memory(stack, spec, memory)
        devices = await stack.enter_async_context(
            served(spec.folders, ARCHITECTURES[spec.arch].virtio_bus)
        )
        machine = await stack.enter_async_context(
            _launched(spec, console, devices, part, parts.Incoming(), inherited=inherited)
        )
        async with _restoring():
            await machine.load(state, host_name, devices)
            await machine.wait_until_ready()
        yield machine


def _restored_memory(
    stack: contextlib.ExitStack | contextlib.AsyncExitStack, spec: MachineSpec, memory: Path
) -> tuple[parts.Memory, list[int]]:
    """Return the memory of a restored machine, and the descriptors that QEMU inherits for it."""
    if not spec.folders:
        return parts.Memory(spec.memory_bytes, memory), []
    # The servers of the folders map the memory too, so it can't be mapped copy-on-write.
    copy = stack.enter_context(_copy_in_memory(memory))
    return parts.Memory(spec.memory_bytes, Path(f"/proc/self/fd/{copy}"), shared=True), [copy]


@contextlib.asynccontextmanager
async def _restoring() -> AsyncIterator[None]:
    """Make RestoreError of whatever fails while a machine is restored, or takes too long."""
    try:
        async with asyncio.timeout(_RESTORE_SECONDS):
            yield
    except TimeoutError:
        raise RestoreError(f"no sign of life within {_RESTORE_SECONDS:g} s") from None
    except (QMPError, OSError, EOFError, ProtocolError, MachineEndedError) as error:
        raise RestoreError(str(error)) from error
    except MachineError as error:
        raise RestoreError(error.what) from error


@contextlib.contextmanager
def _copy_in_memory(path: Path) -> Iterator[int]:
    """Give the descriptor of a file in memory that has the content of another one."""
    copy = os.memfd_create("bpfmatrix", os.MFD_CLOEXEC)
    try:
        with path.open("rb") as file:
            sparse.copy(file.fileno(), copy)
        yield copy
    finally:
        os.close(copy)


@contextlib.asynccontextmanager
async def debugged(
    spec: MachineSpec,
    console: Path,
    gdb: socket.socket,
    saved: tuple[Path, Path] | None = None,
    host_name: str = "",
) -> AsyncIterator[Machine]:
    """Give a machine that waits for gdb.

    It does not run its first instruction until gdb continues it. With `saved`, the files of a
    template's memory and state as for `restore`, it goes on from there, and only its tests wait
    until gdb has connected and continued it. `gdb` is a listening socket, which QEMU takes over; a
    failed attempt to restore leaves it open. Call `Machine.wait_until_ready` before `Machine.run`.
    No limits apply, since a person may stop the guest for as long as they like. RestoreError if the
    saved state can't be loaded.
    """
    bus = ARCHITECTURES[spec.arch].virtio_bus
    tcp = gdb.family == socket.AF_INET
    debugger = parts.Debugger(gdb.fileno(), tcp, held=saved is None)
    variant: tuple[parts.Part, ...]
    async with contextlib.AsyncExitStack() as stack:
        if saved:
            memory, inherited = _restored_memory(stack, spec, saved[0])
            variant = (memory, debugger, parts.Incoming())
        else:
            memory = parts.Memory(spec.memory_bytes, shared=bool(spec.folders))
            variant, inherited = (memory, debugger), []
        devices = await stack.enter_async_context(served(spec.folders, bus))
        machine = await stack.enter_async_context(
            _launched(
                *(spec, console, devices, *variant),
                inherited=[gdb.fileno(), *inherited],
                limited=False,
                held=saved is not None,
            )
        )
        if saved:
            async with _restoring():
                await machine.load(saved[1], host_name, devices)
        # QEMU alone has the socket now, so nobody listens any more when QEMU ends.
        gdb.close()
        yield machine

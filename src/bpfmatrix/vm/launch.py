"""The ways to a running machine: `start` boots one, `restore` brings back one that was saved, and
`debugged` lets gdb hold one from its first instruction on.

Each gives a `Machine`, and ends it when it is left, however that happens.
"""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import QMPError

from bpfmatrix.errors import MachineError, ToolMissingError
from bpfmatrix.host import sparse
from bpfmatrix.host.process import tied
from bpfmatrix.virtiofs.shares import HostFolder
from bpfmatrix.vm import parts
from bpfmatrix.vm.channels import PORTS, Channels, socket_pairs
from bpfmatrix.vm.folders import FolderDevice, served
from bpfmatrix.vm.machine import Machine, MachineEndedError
from bpfmatrix.vm.protocol import ProtocolError

__all__ = ["MachineSpec", "RestoreError", "debugged", "machine_parts", "restore", "start"]

# A restored guest answers within 0.1 s; this is for a host that is very busy.
_RESTORE_SECONDS = 10.0


@dataclass(frozen=True)
class MachineSpec:
    """All that a machine is made from."""

    qemu: str
    arch: str
    accelerator: str
    cpus: int
    memory_bytes: int
    boot: Path
    initramfs: Path
    payload: Path
    kernel_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    boot_limit_seconds: float = 60.0
    folders: tuple[HostFolder, ...] = ()
    """What the guest sees of the host's files."""
    network: bool = False
    """Whether it has QEMU's user network."""
    slots: int = 0
    """For how many folders there is a slot, so that a restored machine can be given them. A saved
    machine can't have them: they are connections."""


class RestoreError(Exception):
    """A saved machine did not come back; nothing was run in it."""


def machine_parts(
    spec: MachineSpec, fds: dict[str, int], *variant: parts.Part
) -> tuple[parts.Part, ...]:
    """Return the parts of a machine; `variant` says what memory it has and how it begins."""
    return (
        parts.Board(spec.arch, spec.cpus),
        parts.Accelerator(spec.arch, spec.accelerator),
        *variant,
        parts.Monitor(fds["qmp"]),
        parts.Console(spec.arch, fds["console"]),
        parts.Ports(tuple((f"bpfmatrix.{name}", fds[name]) for name in PORTS)),
        parts.PayloadDisk(spec.payload),
        *((parts.UserNetwork(),) if spec.network else ()),
        parts.Slots(spec.slots),
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
) -> AsyncIterator[Machine]:
    """Start QEMU, which inherits some descriptors, and end it whatever happens.

    A machine that is to be restored is given its devices by `Machine.load`.
    """
    if shutil.which(spec.qemu) is None:
        raise ToolMissingError(f"{spec.qemu} is not installed", "Run ./bootstrap.")
    later = any(isinstance(part, parts.Incoming) for part in variant)
    at_once = () if later else devices
    ends = [device.end for device in at_once if device.end is not None]
    variant += tuple(device.part for device in at_once)
    with socket_pairs() as (ours, theirs), contextlib.ExitStack() as ours_no_more:
        for end in ends:
            ours_no_more.enter_context(end)
        fds = {name: end.fileno() for name, end in theirs.items()}
        command = parts.command(spec.qemu, machine_parts(spec, fds, *variant))
        process = await asyncio.create_subprocess_exec(
            *tied(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(*fds.values(), *inherited, *(end.fileno() for end in ends)),
            # Ctrl-C at the terminal is ours to handle.
            start_new_session=True,
        )
    channels = Channels(ours)
    machine = Machine(process, channels, console, limited=limited)
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
    """Boot a machine and give it once it is ready; its kernel's console is written to a file.

    With `memory`, the guest's memory is that file, made here: see `Machine.save`.
    MachineEndedError where the guest does not get that far, MachineError where QEMU does not.
    """
    shared = memory is not None or bool(spec.folders)
    part = parts.Memory(spec.memory_bytes, memory, shared)
    limit = spec.boot_limit_seconds
    async with served(spec.folders) as devices, _launched(spec, console, devices, part) as machine:
        try:
            await asyncio.wait_for(machine.become_ready(), limit)
        except TimeoutError:
            raise MachineEndedError(
                "timeout", f"the kernel was not up after {limit:g} s (timeout.boot)"
            ) from None
        yield machine


@contextlib.asynccontextmanager
async def restore(
    spec: MachineSpec, console: Path, memory: Path, state: Path, host_name: str
) -> AsyncIterator[Machine]:
    """Restore a machine that `Machine.save` saved, and give it once it is ready again.

    Any number of machines may be restored from the same files, which none of them changes; what
    they write to the console is appended to its file. RestoreError where it does not come back.
    """
    async with contextlib.AsyncExitStack() as stack:
        if spec.folders:
            # What serves the folders maps the memory too, and so can't have it copied on write.
            copy = stack.enter_context(_copy_in_memory(memory))
            inherited = [copy]
            part = parts.Memory(spec.memory_bytes, Path(f"/proc/self/fd/{copy}"), shared=True)
        else:
            inherited, part = [], parts.Memory(spec.memory_bytes, memory)
        devices = await stack.enter_async_context(served(spec.folders))
        machine = await stack.enter_async_context(
            _launched(spec, console, devices, part, parts.Incoming(), inherited=inherited)
        )
        try:
            async with asyncio.timeout(_RESTORE_SECONDS):
                await machine.load(state, host_name, devices)
        except TimeoutError:
            raise RestoreError(f"no sign of life within {_RESTORE_SECONDS:g} s") from None
        except (QMPError, OSError, EOFError, ProtocolError, MachineEndedError) as error:
            raise RestoreError(str(error)) from error
        except MachineError as error:
            raise RestoreError(error.what) from error
        yield machine


@contextlib.contextmanager
def _copy_in_memory(path: Path) -> Iterator[int]:
    """Give a file without a name that has the content of another one."""
    copy = os.memfd_create("bpfmatrix", os.MFD_CLOEXEC)
    try:
        with path.open("rb") as file:
            sparse.copy(file.fileno(), copy)
        yield copy
    finally:
        os.close(copy)


@contextlib.asynccontextmanager
async def debugged(spec: MachineSpec, console: Path, gdb: socket.socket) -> AsyncIterator[Machine]:
    """Give a machine that stands before its first instruction until gdb lets it go.

    `gdb` is a socket that listens; QEMU takes it over. `Machine.become_ready` comes before
    `Machine.run`. No limit holds: a person may look at the guest for as long as they like.
    """
    memory = parts.Memory(spec.memory_bytes, shared=bool(spec.folders))
    variant, inherited = (memory, parts.Debugger(gdb.fileno())), [gdb.fileno()]
    async with contextlib.AsyncExitStack() as stack:
        devices = await stack.enter_async_context(served(spec.folders))
        machine = await stack.enter_async_context(
            _launched(spec, console, devices, *variant, inherited=inherited, limited=False)
        )
        # Only QEMU is to have it: with QEMU, the port is gone.
        gdb.close()
        yield machine

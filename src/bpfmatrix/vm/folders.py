"""Folders of the host as devices of a machine, with the processes that serve them."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from bpfmatrix.host.process import tied
from bpfmatrix.virtiofs import server
from bpfmatrix.virtiofs.shares import HostFolder
from bpfmatrix.vm import parts

__all__ = ["FolderDevice", "served"]


@dataclass(frozen=True)
class FolderDevice:
    """A folder of the host, as a device of a machine.

    With virtiofs, a process of its own serves the folder, and `end` is QEMU's end of the socket
    between the two.
    """

    part: parts.VirtioFs | parts.NineP
    folder: HostFolder
    end: socket.socket | None = None
    server: asyncio.subprocess.Process | None = None


@contextlib.asynccontextmanager
async def served(
    folders: Sequence[HostFolder], bus: str = "pci"
) -> AsyncIterator[tuple[FolderDevice, ...]]:
    """Give the devices of these folders, and run the servers of those that use virtiofs.

    `bus` is that of the machine's virtio devices. QEMU itself serves folders over 9p.
    """
    devices: list[FolderDevice] = []
    try:
        for folder in folders:
            if folder.transport == "9p":
                part = parts.NineP(folder.tag, folder.path, folder.writable, bus)
                devices.append(FolderDevice(part, folder))
                continue
            ours, theirs = socket.socketpair()
            with ours:
                process = await _serve(folder, ours)
            virtiofs = parts.VirtioFs(folder.tag, theirs.fileno(), bus)
            devices.append(FolderDevice(virtiofs, folder, theirs, process))
        yield tuple(devices)
    finally:
        for device in devices:
            if device.end is not None:
                device.end.close()
            if device.server is not None:
                # It ends with QEMU, unless it hangs in a file system of the host.
                with contextlib.suppress(ProcessLookupError):
                    device.server.kill()
                await device.server.wait()


async def _serve(folder: HostFolder, connection: socket.socket) -> asyncio.subprocess.Process:
    """Start the process that serves a folder to QEMU, at the other end of a connection."""
    return await asyncio.create_subprocess_exec(
        *tied(server.command(folder, connection.fileno())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=[connection.fileno()],
        start_new_session=True,
    )

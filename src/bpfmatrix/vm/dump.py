"""The memory of a guest as a core file, written by QEMU (QMP's `dump-guest-memory`).

The file is an ELF core of the physical memory, with the registers of each processor, and is packed
with zstd while QEMU writes it to a pipe. QEMU's own packed formats (kdump) need a file in which it
can seek, and gdb can't read them. The note VMCOREINFO, which tells debuggers where the kernel is in
the memory, is in it if the kernel has given it to QEMU's device `vmcoreinfo`. For that it needs the
driver of QEMU's firmware configuration device, `MODULE`.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, Any

from qemu.qmp import QMPClient, QMPError

from bpfmatrix.errors import MachineError

__all__ = ["DEVICE_ARCHITECTURES", "MODULE", "SUFFIX", "path_beside", "write"]

MODULE = "qemu_fw_cfg"
DEVICE_ARCHITECTURES = ("x86_64", "aarch64")
"""Where QEMU has the device and kernels have the driver (docs/specs/vmcoreinfo.rst of QEMU)."""
SUFFIX = ".zst"

_CHUNK_BYTES = 1 << 20
_FD_NAME = "dump"
# Level 1 packs 512 MB of a guest in about a second; higher ones took twice as long for 10 % less.
_LEVEL = 1


def path_beside(console: Path) -> Path:
    """Return the path of the core file of a guest with this console: `vmcore.zst`."""
    return console.with_name(console.stem.replace("console", "vmcore") + SUFFIX)


async def write(qmp: QMPClient, completed: Callable[[], Awaitable[str]], target: Path) -> None:
    """Write the memory of a guest that is stopped to a file, which appears when it is complete.

    No other user may read the file: with --rootfs host, the memory has files of the host.
    `completed` waits until QEMU has ended the dump, and returns its error, or `""`. MachineError if
    QEMU can't dump, or if the file can't be written.
    """
    part = target.with_name(f".{target.name}.part")
    reading, writing = os.pipe()
    try:
        with contextlib.ExitStack() as closing:
            closing.callback(os.close, writing)
            try:
                file = os.fdopen(_opened_for_owner(part), "wb")
            except OSError:
                os.close(reading)
                raise
            # The thread goes on until QEMU closes the pipe, even if this coroutine is cancelled.
            packing = asyncio.create_task(asyncio.to_thread(_pack, reading, file))
            qmp.send_fd_scm(writing)
            await qmp.execute("getfd", {"fdname": _FD_NAME})
        arguments = {"paging": False, "protocol": f"fd:{_FD_NAME}", "detach": True}
        await qmp.execute("dump-guest-memory", arguments)
        error = await completed()
        # If the packing failed, QEMU's error is only that nobody reads its pipe.
        await packing
        if error:
            raise MachineError(f"QEMU could not dump the memory: {error}")
        part.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise MachineError(f"{target.name} could not be written: {reason}") from error
    except (QMPError, EOFError) as error:
        raise MachineError(f"QEMU could not dump the memory: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _opened_for_owner(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def _pack(reading: int, file: IO[bytes]) -> None:
    """Pack what comes from a pipe into a file, and close both."""
    import zstandard  # noqa: PLC0415 - off the start-up path

    packer: Any = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with open(reading, "rb", buffering=0) as pipe, file, packer.stream_writer(file) as writer:
        while data := pipe.read(_CHUNK_BYTES):
            writer.write(data)

"""The core file of a guest's memory, as it comes from QEMU through a pipe."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any, cast

import pytest
import zstandard
from qemu.qmp import QMPClient

from bpfmatrix.errors import MachineError
from bpfmatrix.vm import dump

MEMORY = bytes(range(256)) * 4096 + bytes(1 << 20)


class Qemu:
    """Writes `MEMORY` to the pipe that it is given, as QEMU does in a thread of its own."""

    def __init__(self, error: str = "", *, ends: bool = True) -> None:
        self.commands: list[str] = []
        self._error = error
        self._ends = ends
        self._pipe = -1
        self._completed: asyncio.Queue[str] = asyncio.Queue()

    def send_fd_scm(self, fd: int) -> None:
        self._pipe = os.dup(fd)

    async def execute(self, command: str, arguments: dict[str, Any]) -> None:
        self.commands.append(command)
        if command == "dump-guest-memory":
            assert arguments["protocol"] == "fd:dump"
            if self._ends:
                threading.Thread(target=self._write, args=(asyncio.get_running_loop(),)).start()

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        error = self._error
        try:
            with os.fdopen(self._pipe, "wb", buffering=0) as pipe:
                for at in range(0, len(MEMORY), 4096):
                    pipe.write(MEMORY[at : at + 4096])
        except OSError:
            error = "dump: failed to save memory: Broken pipe"
        loop.call_soon_threadsafe(self._completed.put_nowait, error)

    async def completed(self) -> str:
        return await self._completed.get()

    def end(self) -> None:
        os.close(self._pipe)

    async def write(self, target: Path) -> None:
        await dump.write(cast(QMPClient, self), self.completed, target)


def test_the_file_is_packed_and_appears_when_it_is_complete(tmp_path: Path) -> None:
    qemu = Qemu()
    before = os.umask(0o022)
    try:
        asyncio.run(qemu.write(tmp_path / "vmcore.zst"))
    finally:
        os.umask(before)
    # Others may have no file of the guest, or of the host.
    assert (tmp_path / "vmcore.zst").stat().st_mode & 0o777 == 0o600
    assert qemu.commands == ["getfd", "dump-guest-memory"]
    assert [path.name for path in tmp_path.iterdir()] == ["vmcore.zst"]
    packed = (tmp_path / "vmcore.zst").read_bytes()
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == MEMORY
    assert len(packed) < len(MEMORY) // 100


def test_an_error_of_qemu_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="could not dump the memory: no space"):
        asyncio.run(Qemu("no space").write(tmp_path / "vmcore.zst"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"vmcore\.zst could not be written: No such file"):
        asyncio.run(Qemu().write(tmp_path / "missing/vmcore.zst"))


def test_a_full_disk_is_told_and_qemu_ends_its_dump(tmp_path: Path) -> None:
    target = tmp_path / "vmcore.zst"
    # Whatever is written to this device fails with ENOSPC.
    (tmp_path / ".vmcore.zst.part").symlink_to("/dev/full")
    with pytest.raises(MachineError, match="could not be written: No space left on device"):
        asyncio.run(Qemu().write(target))
    assert list(tmp_path.iterdir()) == []


def test_a_dump_that_is_cancelled_leaves_no_file(tmp_path: Path) -> None:
    async def cancel() -> None:
        qemu = Qemu(ends=False)
        writing = asyncio.create_task(qemu.write(tmp_path / "vmcore.zst"))
        while "dump-guest-memory" not in qemu.commands:
            await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        qemu.end()  # as the end of QEMU's process does

    asyncio.run(cancel())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("console", "name"),
    [("console.log", "vmcore.zst"), ("console-2.log", "vmcore-2.zst")],
)
def test_it_lies_beside_the_console(console: str, name: str) -> None:
    assert dump.path_beside(Path("6.1") / console) == Path("6.1") / name

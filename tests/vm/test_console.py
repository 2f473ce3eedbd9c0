"""The kernel's console, with a socket pair in place of QEMU."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bpfmatrix.vm import console
from bpfmatrix.vm.console import Console


def with_console(path: Path, use: Callable[[Console, socket.socket], Awaitable[None]]) -> None:
    """Let `use` have a console and the other end of its socket."""

    async def run() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            made = Console(ours, path)
            made.open()
            try:
                await use(made, theirs)
            finally:
                made.close()

    asyncio.run(run())


def test_what_was_written_is_taken_at_once(tmp_path: Path) -> None:
    async def use(made: Console, qemu: socket.socket) -> None:
        qemu.sendall(b"one\n")
        # Without a turn of the event loop: a result must not come before its console.
        assert made.take() == b"one\n"
        assert made.take() == b""
        qemu.sendall(b"two\n")
        await asyncio.sleep(0)
        assert made.take() == b"two\n"
        qemu.shutdown(socket.SHUT_WR)
        await made.closed.wait()
        assert made.take() == b""
        assert made.text() == "one\ntwo\n"

    with_console(tmp_path / "console.log", use)


def test_the_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    path.write_text("of the template\n")

    async def use(made: Console, qemu: socket.socket) -> None:
        qemu.sendall(b"more\n")
        assert made.take() == b"more\n"

    with_console(path, use)
    assert path.read_text() == "of the template\nmore\n"


def test_a_flood_is_read_and_kept_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_KEPT_BYTES", 1000)

    async def use(made: Console, qemu: socket.socket) -> None:
        for _ in range(5):
            qemu.sendall(b"x" * 900)
            made._read()
        assert len(made.take()) < 2000
        qemu.close()
        await made.closed.wait()

    with_console(tmp_path / "console.log", use)
    assert (tmp_path / "console.log").read_bytes() == b"x" * 1000


def test_a_full_disk_does_not_stop_the_reader(tmp_path: Path) -> None:
    async def use(made: Console, qemu: socket.socket) -> None:
        qemu.sendall(b"x" * 5000)
        assert made.take() == b"x" * 5000
        assert not made.closed.is_set()

    full = tmp_path / "console.log"
    full.symlink_to("/dev/full")
    with_console(full, use)

"""Our streams, tied to sockets whose other ends are the test's."""

import asyncio
import os
import socket
import threading

import pytest

from bpfmatrix.shell.streams import InputStream, OutputStream, are_one

BOUNDARY = b"0123456789abcdef"


def test_an_input_passes_on_its_end_after_all_of_it() -> None:
    async def pass_on() -> bytes:
        reading, writing = os.pipe()
        ours, guests = socket.socketpair()
        with ours, guests:
            guests.settimeout(10)
            InputStream(reading, ours).start()
            content = os.urandom(1 << 20)
            writer = threading.Thread(target=_write, args=(writing, content))
            writer.start()
            got = b""
            while data := await asyncio.to_thread(guests.recv, 1 << 16):
                got += data
            writer.join()
            # Only that direction ended.
            guests.sendall(b"still here")
            assert ours.recv(100) == b"still here"
            os.close(reading)
            assert got == content
            return got

    assert len(asyncio.run(pass_on())) == 1 << 20


def _write(fd: int, content: bytes) -> None:
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def test_an_output_ends_at_its_boundary() -> None:
    async def pass_on() -> bytes:
        reading, writing = os.pipe()
        ours, guests = socket.socketpair()
        with ours, guests:
            output = OutputStream(writing, ours, BOUNDARY, lambda: None)
            output.start()
            guests.sendall(b"hello " + BOUNDARY[:5] + b" there" + BOUNDARY[:9])
            guests.sendall(BOUNDARY[9:])
            await asyncio.wait_for(output.done.wait(), 10)
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            return file.read()

    assert asyncio.run(pass_on()) == b"hello " + BOUNDARY[:5] + b" there"


def test_an_output_that_nobody_reads_is_told_once_and_does_not_hold_up_the_guest() -> None:
    async def pass_on() -> int:
        reading, writing = os.pipe()
        os.close(reading)
        ours, guests = socket.socketpair()
        told: list[None] = []
        with ours, guests:
            guests.settimeout(10)
            output = OutputStream(writing, ours, BOUNDARY, lambda: told.append(None))
            output.start()
            await asyncio.to_thread(guests.sendall, bytes(4 << 20) + BOUNDARY)
            await asyncio.wait_for(output.done.wait(), 10)
        os.close(writing)
        return len(told)

    assert asyncio.run(pass_on()) == 1


@pytest.mark.parametrize(
    ("typed", "ends"),
    [(b"\x1d\x1d\x1d", True), (b"\x1d\x1d", False), (b"a\x1d\x1db\x1d", True), (b"abc", False)],
)
def test_three_times_the_escape_key_ends_a_terminal(typed: bytes, ends: bool) -> None:
    async def ended() -> bool:
        reading, writing = os.pipe()  # which stays open, as a terminal does
        ours, guests = socket.socketpair()
        called = asyncio.Event()
        with ours, guests:
            InputStream(reading, ours, called.set).start()
            os.write(writing, typed)
            try:
                await asyncio.wait_for(called.wait(), 0.3)
            except TimeoutError:
                guests.settimeout(10)
                assert guests.recv(100) == typed
            os.close(writing)
        return called.is_set()

    assert asyncio.run(ended()) is ends


def test_what_is_one_stream() -> None:
    reading, writing = os.pipe()
    copy = os.dup(writing)
    assert are_one(writing, copy)
    with open(os.devnull) as null:  # noqa: PTH123
        assert not are_one(writing, null.fileno())
    os.close(copy)
    assert not are_one(writing, copy)
    os.close(reading)
    os.close(writing)

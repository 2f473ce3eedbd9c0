"""Standard streams that are connected to sockets; the other ends belong to the test."""

import asyncio
import os
import socket
import threading

import pytest

from bpfmatrix.shell.streams import InputStream, OutputStream, are_one

BOUNDARY = b"0123456789abcdef"


def test_an_input_is_passed_on_up_to_its_end() -> None:
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
            # The other direction is still open.
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


def test_a_closed_output_is_reported_once_and_the_guest_can_write_on() -> None:
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
def test_ctrl_bracket_three_times_ends_a_terminal(typed: bytes, ends: bool) -> None:
    async def type_and_hang_up() -> bool:
        """Return whether the keys ended it. If not, they are passed on, and hanging up ends it."""
        reading, writing = os.pipe()  # which stays open, as a terminal does
        ours, guests = socket.socketpair()
        called = asyncio.Event()
        with ours, guests:
            guests.setblocking(False)
            InputStream(reading, ours, called.set).start()
            os.write(writing, typed)
            passed_on = asyncio.create_task(asyncio.get_running_loop().sock_recv(guests, 100))
            waiting = asyncio.create_task(called.wait())
            async with asyncio.timeout(10):
                await asyncio.wait({passed_on, waiting}, return_when=asyncio.FIRST_COMPLETED)
                ended = waiting.done()
                os.close(writing)
                await waiting
            if ended:
                passed_on.cancel()
            else:
                assert await passed_on == typed
        return ended

    assert asyncio.run(type_and_hang_up()) is ends


def test_two_descriptors_of_one_pipe_are_one_stream() -> None:
    reading, writing = os.pipe()
    copy = os.dup(writing)
    assert are_one(writing, copy)
    with open(os.devnull) as null:  # noqa: PTH123
        assert not are_one(writing, null.fileno())
    os.close(copy)
    assert not are_one(writing, copy)
    os.close(reading)
    os.close(writing)

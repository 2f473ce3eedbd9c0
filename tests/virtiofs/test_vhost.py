"""The vhost-user server, with queues as good and as bad as a guest can make them."""

import mmap
import os
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.virtiofs import vhost
from bpfmatrix.virtiofs.fuse import FuseServer

GUEST, USER = 0x10_0000, 0x7F00_0000_0000
SIZE = 1 << 16
TABLE, AVAIL, USED, REQUEST, REPLY = 0, 0x1000, 0x2000, 0x3000, 0x4000
ENTRIES = 64
NEXT, WRITE, INDIRECT = 1, 2, 4
GETATTR = struct.pack("<IIQQIIII", 56, 3, 7, 1, 0, 0, 0, 0) + bytes(16)


@dataclass
class Guest:
    """QEMU and its guest: the guest's memory, and QEMU's end of the vhost-user socket."""

    memory: mmap.mmap
    socket: socket.socket
    kick: int
    call: int
    server: threading.Thread
    raised: list[BaseException]

    def say(self, request: int, payload: bytes, *fds: int) -> None:
        message = struct.pack("<III", request, 1, len(payload)) + payload
        socket.send_fds(self.socket, [message], list(fds))

    def describe(self, number: int, address: int, length: int, flags: int, following: int) -> None:
        entry = struct.pack("<QIHH", address, length, flags, following)
        self.memory[TABLE + 16 * number : TABLE + 16 * (number + 1)] = entry

    def offer(self, heads: list[int]) -> None:
        """Make requests available, and kick the queue."""
        for number, head in enumerate(heads):
            struct.pack_into("<H", self.memory, AVAIL + 4 + 2 * number, head)
        struct.pack_into("<H", self.memory, AVAIL + 2, len(heads))
        os.eventfd_write(self.kick, 1)


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    fd = os.memfd_create("guest")
    os.truncate(fd, SIZE)
    ours, theirs = socket.socketpair()
    raised: list[BaseException] = []

    def serve() -> None:
        files = FuseServer(tmp_path, False, 1.0)
        try:
            vhost.serve(theirs, files)
        except BaseException as error:
            raised.append(error)
        finally:
            files.close()

    made = Guest(
        mmap.mmap(fd, SIZE),
        ours,
        os.eventfd(0),
        os.eventfd(0),
        threading.Thread(target=serve),
        raised,
    )
    made.server.start()
    made.say(5, struct.pack("<IIQQQQ", 1, 0, GUEST, SIZE, USER, 0), fd)
    made.say(8, struct.pack("<II", 1, ENTRIES))
    made.say(9, struct.pack("<IIQQQQ", 1, 0, USER + TABLE, USER + USED, USER + AVAIL, 0))
    made.say(13, struct.pack("<Q", 1), made.call)
    made.say(12, struct.pack("<Q", 1), made.kick)
    yield made
    ours.close()
    made.server.join(10)
    assert not made.server.is_alive()
    os.close(fd)


def put_request(guest: Guest) -> None:
    guest.memory[REQUEST : REQUEST + len(GETATTR)] = GETATTR


def test_a_request_is_answered_where_the_guest_says(guest: Guest) -> None:
    put_request(guest)
    guest.describe(5, GUEST + REQUEST, 40, NEXT, 6)
    guest.describe(6, GUEST + REQUEST + 40, 16, NEXT, 2)
    guest.describe(2, GUEST + REPLY, 16, NEXT | WRITE, 3)
    guest.describe(3, GUEST + REPLY + 0x800, 104, WRITE, 0)
    guest.offer([5])
    assert os.eventfd_read(guest.call) == 1
    assert struct.unpack_from("<HH", guest.memory, USED) == (0, 1)
    assert struct.unpack_from("<II", guest.memory, USED + 4) == (5, 120)
    assert struct.unpack_from("<IiQ", guest.memory, REPLY) == (120, 0, 7)


def test_an_indirect_table(guest: Guest) -> None:
    put_request(guest)
    table = struct.pack("<QIHH", GUEST + REQUEST, 56, NEXT, 1)
    table += struct.pack("<QIHH", GUEST + REPLY, 120, WRITE, 0)
    guest.memory[0x5000 : 0x5000 + len(table)] = table
    guest.describe(0, GUEST + 0x5000, len(table), INDIRECT, 0)
    guest.offer([0])
    assert os.eventfd_read(guest.call) == 1
    assert struct.unpack_from("<IiQ", guest.memory, REPLY) == (120, 0, 7)


@pytest.mark.parametrize(
    ("descriptor", "words"),
    [
        ((GUEST + REQUEST, 40, NEXT, 0), "has no end"),
        ((GUEST + REQUEST, 40, NEXT, ENTRIES), "leaves its table"),
        ((GUEST + SIZE - 8, 40, 0, 0), "no memory at"),
        ((0, 40, 0, 0), "no memory at 0x0"),
        ((GUEST + REQUEST, 8, 0, 0), "shorter than a FUSE header"),
        ((GUEST + REQUEST, 56, 0, 0), "no space for a reply"),
        ((GUEST + 0x5000, 0, INDIRECT, 0), "an empty table"),
        ((GUEST + 0x5000, 1, INDIRECT, 0), "that leaves its table"),
        ((GUEST + TABLE, 16, INDIRECT, 0), "or within another one"),
    ],
)
def test_a_broken_queue_ends_the_server(
    guest: Guest, descriptor: tuple[int, int, int, int], words: str
) -> None:
    put_request(guest)
    guest.describe(0, *descriptor)
    guest.offer([0])
    guest.server.join(10)
    [error] = guest.raised
    assert isinstance(error, SystemExit)
    assert words in str(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(
        st.tuples(
            st.one_of(st.integers(GUEST, GUEST + SIZE), st.integers(0, 2**64 - 1)),
            st.one_of(st.integers(0, 200), st.integers(0, 2**32 - 1)),
            st.integers(0, 7),
            st.integers(0, 70),
        ),
        min_size=1,
        max_size=8,
    ),
    heads=st.lists(st.integers(0, 70), min_size=1, max_size=4),
    content=st.binary(max_size=200),
)
def test_any_other_table_is_served_or_refused(
    tmp_path: Path, table: list[tuple[int, int, int, int]], heads: list[int], content: bytes
) -> None:
    fd = os.memfd_create("guest")
    os.truncate(fd, SIZE)
    memory = vhost._Memory()
    memory.map(struct.pack("<IIQQQQ", 1, 0, GUEST, SIZE, USER, 0), [os.dup(fd)])
    with mmap.mmap(fd, SIZE) as view:
        view[REQUEST : REQUEST + len(content)] = content
        for number, entry in enumerate(table):
            view[16 * number : 16 * (number + 1)] = struct.pack("<QIHH", *entry)
        struct.pack_into("<HH", view, AVAIL, 0, len(heads))
        struct.pack_into(f"<{len(heads)}H", view, AVAIL + 4, *heads)
    os.close(fd)
    queue = vhost._Queue(memory)
    queue.size, queue.addresses = ENTRIES, (USER + TABLE, USER + USED, USER + AVAIL)
    files = FuseServer(tmp_path, False, 1.0)
    try:
        queue.serve(files)
    except vhost._GuestError:
        return
    finally:
        files.close()
    assert queue.next == len(heads)

"""The virtiofs device of a guest: a vhost-user server, which a process of the host runs.

`serve` speaks vhost-user with QEMU on a socket (docs/interop/vhost-user.rst of QEMU). It takes the
guest's requests from the device's queues (virtio 1.2: section 2.7 for split virtqueues, section
5.11 for the queues of a file system), has a `FuseServer` answer them, and returns when QEMU ends.
"""

import array
import enum
import mmap
import os
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from bpfmatrix.virtiofs.fuse import FuseServer

__all__ = ["serve"]

_HEADER = struct.Struct("<III")  # request, flags, size
_VERSION, _REPLY = 1, 1 << 2
_NO_FD = 1 << 8  # VHOST_USER_VRING_NOFD_MASK: no descriptor comes with SET_VRING_KICK or _CALL
_MOST_FDS = 8

_INDIRECT_DESC, _PROTOCOL_FEATURES, _VERSION_1 = 1 << 28, 1 << 30, 1 << 32
_PROTOCOL_MQ = 1 << 0
_QUEUES = 2  # hiprio (such as FORGET), and one request queue

_DESCRIPTOR = struct.Struct("<QIHH")  # address, length, flags, next
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_LARGEST_REQUEST_BYTES = 4 << 20


class _Request(enum.IntEnum):
    """The messages of QEMU that need an action or a reply."""

    GET_FEATURES = 1
    SET_MEM_TABLE = 5
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    GET_PROTOCOL_FEATURES = 15
    GET_QUEUE_NUM = 17


class _GuestError(Exception):
    """The guest's driver broke the rules of virtqueues."""


@dataclass(frozen=True)
class _Region:
    """A region of the guest's memory."""

    guest: int
    """Its physical address in the guest."""
    user: int
    """Its virtual address in QEMU, by which QEMU gives the addresses of the queues."""
    size: int
    view: memoryview


class _Memory:
    """The guest's memory, mapped into this process."""

    def __init__(self) -> None:
        self._regions: list[_Region] = []

    def map(self, payload: bytes, fds: list[int]) -> None:
        """Map the regions that SET_MEM_TABLE describes, and close their descriptors."""
        regions = []
        for number, fd in enumerate(fds):
            guest, size, user, offset = struct.unpack_from("<QQQQ", payload, 8 + 32 * number)
            view = memoryview(mmap.mmap(fd, offset + size, mmap.MAP_SHARED))[offset:]
            regions.append(_Region(guest, user, size, view))
            os.close(fd)
        self._regions = regions

    def guest(self, address: int, size: int) -> memoryview:
        """Return a piece of the memory by its physical address in the guest."""
        for region in self._regions:
            at = address - region.guest
            if at >= 0 and at + size <= region.size:
                return region.view[at : at + size]
        raise _GuestError(f"no memory at {address:#x}")

    def user(self, address: int, size: int) -> memoryview:
        """Return a piece of the memory by its virtual address in QEMU."""
        for region in self._regions:
            at = address - region.user
            if at >= 0 and at + size <= region.size:
                return region.view[at : at + size]
        raise _GuestError(f"QEMU has no memory at {address:#x}")


class _Queue:
    """A split virtqueue."""

    def __init__(self, memory: _Memory) -> None:
        self._memory = memory
        self._fence_lock = threading.Lock()
        self._fence_lock.acquire()
        self.size = 0
        self.next = 0
        """The number of the next entry of the available ring to look at."""
        self.addresses: tuple[int, int, int] | None = None
        self.kick = self.call = -1

    def _fence(self) -> None:
        # The order of accesses to the rings matters (virtio 1.2, 2.7.13), and Python has no memory
        # barrier. Releasing and taking a lock are atomic operations, which act as one.
        self._fence_lock.release()
        self._fence_lock.acquire()

    def serve(self, files: FuseServer) -> None:
        """Answer all requests in the queue."""
        if self.addresses is None or not self.size:
            return
        descriptors, used, available = self.addresses
        table = self._memory.user(descriptors, 16 * self.size)
        avail = self._memory.user(available, 4 + 2 * self.size)
        ring = self._memory.user(used, 4 + 8 * self.size)
        while True:
            self._fence()
            if self.next == struct.unpack_from("<H", avail, 2)[0]:
                return
            self._fence()
            [head] = struct.unpack_from("<H", avail, 4 + 2 * (self.next % self.size))
            request, buffers = self._gather(table, head)
            try:
                written = files.answer(request, buffers)
            except (ValueError, struct.error) as error:
                raise _GuestError(str(error)) from error
            struct.pack_into("<II", ring, 4 + 8 * (self.next % self.size), head, written)
            self._fence()
            self.next = (self.next + 1) & 0xFFFF
            struct.pack_into("<H", ring, 2, self.next)
            self._fence()
            if self.call >= 0:
                os.eventfd_write(self.call, 1)

    def _gather(self, table: memoryview, head: int) -> tuple[bytearray, list[memoryview]]:
        """Return a request's bytes and the buffers for its reply."""
        request, buffers = bytearray(), []
        for address, length, flags in self._chain(table, head):
            piece = self._memory.guest(address, length)
            if flags & _WRITE:
                buffers.append(piece)
            elif len(request) + length > _LARGEST_REQUEST_BYTES:
                raise _GuestError(f"a request over {_LARGEST_REQUEST_BYTES >> 20} MiB")
            else:
                request += piece
        return request, buffers

    def _chain(self, table: memoryview, head: int) -> Iterator[tuple[int, int, int]]:
        """Give the descriptors of a request: address, length and flags of each."""
        seen, index, indirect = 0, head, False
        while True:
            if 16 * (index + 1) > len(table) or 16 * seen >= len(table):
                raise _GuestError("a chain of descriptors that leaves its table, or has no end")
            address, length, flags, following = _DESCRIPTOR.unpack_from(table, 16 * index)
            if flags & _INDIRECT:
                if seen or indirect:
                    raise _GuestError("an indirect table within a chain or within another one")
                table, index, indirect = self._memory.guest(address, length), 0, True
                if not length:
                    raise _GuestError("an empty table")
                continue
            yield address, length, flags
            if not flags & _NEXT:
                return
            seen, index = seen + 1, following


class _Device:
    """The vhost-user side of one device."""

    def __init__(self, connection: socket.socket, files: FuseServer) -> None:
        self._connection = connection
        self._files = files
        self._memory = _Memory()
        self._queues = [_Queue(self._memory) for _ in range(_QUEUES)]
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Serve until QEMU closes its end."""
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    if not self._take_message():
                        return
                elif key.data.kick == key.fd:  # not closed by a message just now
                    os.eventfd_read(key.fd)
                    key.data.serve(self._files)

    def _take_message(self) -> bool:
        """Act on the next message of QEMU; returns false if QEMU closed the socket."""
        header, fds = self._receive(_HEADER.size)
        if not header:
            return False
        request, _, size = _HEADER.unpack(header)
        payload = self._receive(size)[0] if size else b""
        reply = self._do(request, payload, fds)
        if reply is not None:
            self._connection.sendall(_HEADER.pack(request, _VERSION | _REPLY, len(reply)) + reply)
        return True

    def _receive(self, size: int) -> tuple[bytes, list[int]]:
        fds = array.array("i")
        space = socket.CMSG_SPACE(_MOST_FDS * fds.itemsize)
        data, extra, _, _ = self._connection.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        while data and len(data) < size:
            more = self._connection.recv(size - len(data))
            if not more:
                return b"", []
            data += more
        return data, list(fds)

    def _do(self, request: int, payload: bytes, fds: list[int]) -> bytes | None:
        """Act on one message, and return its reply if it has one."""
        # The messages about a vring begin with its index, or with its index and flags.
        numbers = struct.unpack_from("<II", payload) if len(payload) >= 8 else (0, 0)
        match request:
            case _Request.GET_FEATURES:
                return struct.pack("<Q", _INDIRECT_DESC | _PROTOCOL_FEATURES | _VERSION_1)
            case _Request.GET_PROTOCOL_FEATURES:
                return struct.pack("<Q", _PROTOCOL_MQ)
            case _Request.GET_QUEUE_NUM:
                return struct.pack("<Q", _QUEUES)
            case _Request.SET_MEM_TABLE:
                self._memory.map(payload, fds)
            case _Request.SET_VRING_NUM:
                self._queues[numbers[0]].size = numbers[1]
            case _Request.SET_VRING_ADDR:
                _, _, descriptors, used, available = struct.unpack_from("<IIQQQ", payload)
                self._queues[numbers[0]].addresses = (descriptors, used, available)
            case _Request.SET_VRING_BASE:
                self._queues[numbers[0]].next = numbers[1]
            case _Request.GET_VRING_BASE:  # it also stops the queue
                queue = self._queues[numbers[0]]
                self._take_kick(queue, -1)
                queue.addresses = None
                return struct.pack("<II", numbers[0], queue.next)
            case _Request.SET_VRING_KICK | _Request.SET_VRING_CALL:
                fd = -1 if numbers[0] & _NO_FD else fds.pop()
                self._take_descriptor(_Request(request), self._queues[numbers[0] & 0xFF], fd)
        # Other messages, such as SET_OWNER, need no action.
        if request != _Request.SET_MEM_TABLE:
            for fd in fds:
                os.close(fd)
        return None

    def _take_descriptor(self, request: _Request, queue: _Queue, fd: int) -> None:
        if request == _Request.SET_VRING_KICK:
            self._take_kick(queue, fd)
            queue.serve(self._files)  # requests that came before this descriptor
            return
        if queue.call >= 0:
            os.close(queue.call)
        queue.call = fd

    def _take_kick(self, queue: _Queue, fd: int) -> None:
        if queue.kick >= 0:
            self._selector.unregister(queue.kick)
            os.close(queue.kick)
        queue.kick = fd
        if fd >= 0:
            self._selector.register(fd, selectors.EVENT_READ, queue)


def serve(connection: socket.socket, files: FuseServer) -> None:
    """Serve the device of the QEMU at the other end of this socket, until QEMU closes it.

    SystemExit if the guest's driver breaks the rules of virtqueues.
    """
    try:
        _Device(connection, files).run()
    except ConnectionError:
        return  # QEMU has ended
    except (_GuestError, IndexError, struct.error) as error:
        raise SystemExit(f"the guest's virtiofs driver broke the protocol: {error}") from None

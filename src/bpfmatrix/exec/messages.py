"""The messages between the client, which is `bpfmatrix exec`, and the keeper, which has the guests.

They talk over a stream socket. The client sends a `Call` with the descriptors of its standard
streams, and later one byte for each signal that it gets: the signal's number. The keeper answers
with `Reply`s: the first one says that it took the call, and the last one has the exit status.

The client imports this module, so it imports little: a test runner starts a client for each test.
"""

import os
import socket
import sys
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["ACCEPTED", "EXIT", "NOTE", "Call", "Reply", "receive_call", "replies", "user_of"]

ACCEPTED: Final = b"A"
"""The keeper took the call. Without this, the client may call another keeper."""
NOTE: Final = b"N"
"""A text for standard error."""
EXIT: Final = b"E"
"""The exit status, as a decimal number. It is the last reply."""

_LENGTH_BYTES = 4
_STREAMS = 3
_CHUNK_BYTES = 1 << 16


class Call(NamedTuple):
    """What a client asks for."""

    words: tuple[str, ...]
    """The command line: options, and the command to run with its arguments."""
    folder: str
    """The client's working directory."""
    environment: dict[str, str]
    """All of the client's environment variables."""

    def send(self, connection: socket.socket) -> None:
        """Send the call, with the descriptors 0, 1 and 2 of this process."""
        variables = (f"{name}={value}" for name, value in self.environment.items())
        # No argument, path or variable of Linux has a NUL in it.
        fields = (str(len(self.words)), *self.words, self.folder, *variables)
        body = b"\0".join(map(os.fsencode, fields))
        head = len(body).to_bytes(_LENGTH_BYTES, "big")
        socket.send_fds(connection, [head], range(_STREAMS))
        connection.sendall(body)


def receive_call(connection: socket.socket) -> tuple[Call, list[int]]:
    """Wait for a call; return it with the descriptors of the client's standard streams.

    EOFError if the client sends less than a call.
    """
    head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, _STREAMS)
    try:
        body = _exactly(connection, int.from_bytes(head, "big")) if head else b""
        if len(head) != _LENGTH_BYTES or len(descriptors) != _STREAMS:
            raise EOFError("the client sent no call")
    except BaseException:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    count, *fields = map(os.fsdecode, body.split(b"\0"))
    words, (folder, *variables) = fields[: int(count)], fields[int(count) :]
    pairs = (variable.partition("=") for variable in variables)
    return Call(tuple(words), folder, {name: value for name, _, value in pairs}), descriptors


class Reply(NamedTuple):
    """What the keeper says: one of the kinds above, and its text."""

    kind: bytes
    text: str = ""

    def encode(self) -> bytes:
        """Return the bytes for the socket."""
        body = self.text.encode(errors="surrogateescape")
        return self.kind + len(body).to_bytes(_LENGTH_BYTES, "big") + body


def replies(connection: socket.socket) -> Iterator[Reply]:
    """Yield the keeper's replies up to the exit status; EOFError if the keeper ends before."""
    while True:
        head = _exactly(connection, 1 + _LENGTH_BYTES)
        body = _exactly(connection, int.from_bytes(head[1:], "big"))
        reply = Reply(head[:1], body.decode(errors="surrogateescape"))
        yield reply
        if reply.kind == EXIT:
            return


def user_of(connection: socket.socket) -> int:
    """Return the id of the user at the other end: an abstract socket is open to all users."""
    # struct ucred of unix(7): the ids of the process, the user and the group.
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        data = connection.recv(min(count - len(found), _CHUNK_BYTES))
        if not data:
            raise EOFError("the other process ended")
        found += data
    return bytes(found)

"""The messages between client and keeper."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.exec.messages import ACCEPTED, EXIT, NOTE, Call, Reply, receive_call, replies

# What Linux passes to a program: bytes without a NUL, as Python has them.
TEXTS = st.binary(max_size=300).filter(lambda data: b"\0" not in data).map(os.fsdecode)
NAMES = TEXTS.filter(lambda text: text and "=" not in text)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def exchanged(call: Call) -> tuple[Call, list[int]]:
    one, other = socket.socketpair()
    with one, other:
        # A thread, since the call may not fit into the buffer of a socket.
        sender = threading.Thread(target=call.send, args=(one,))
        sender.start()
        found = receive_call(other)
        sender.join()
    return found


@given(st.lists(TEXTS), TEXTS, st.dictionaries(NAMES, TEXTS))
def test_a_call_arrives_as_it_was_sent(
    words: list[str], folder: str, variables: dict[str, str]
) -> None:
    call = Call(tuple(words), folder, variables)
    found, descriptors = exchanged(call)
    for descriptor in descriptors:
        os.close(descriptor)
    assert found == call


def test_a_call_has_the_streams_of_the_client() -> None:
    _, descriptors = exchanged(Call(("true",), "/", {"LARGE": "x" * (1 << 20)}))
    for number, descriptor in enumerate(descriptors):
        ours, its = os.fstat(number), os.fstat(descriptor)
        assert (ours.st_dev, ours.st_ino) == (its.st_dev, its.st_ino)
        os.close(descriptor)
    assert len(descriptors) == 3


@pytest.mark.parametrize("sent", [b"", b"\0", b"\0\0\0\5"])
def test_less_than_a_call_is_no_call(
    ends: tuple[socket.socket, socket.socket], sent: bytes
) -> None:
    ends[0].sendall(sent)
    ends[0].close()
    with pytest.raises(EOFError):
        receive_call(ends[1])


def test_replies_end_with_the_exit_status(ends: tuple[socket.socket, socket.socket]) -> None:
    said = [Reply(ACCEPTED), Reply(NOTE, "two\nlines, \udcff"), Reply(EXIT, "42")]
    ends[0].sendall(b"".join(reply.encode() for reply in said) + b"more")
    assert list(replies(ends[1])) == said


def test_a_keeper_that_ends_early_is_noticed(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[0].sendall(Reply(ACCEPTED).encode() + Reply(EXIT, "42").encode()[:-1])
    ends[0].close()
    found = replies(ends[1])
    assert next(found) == Reply(ACCEPTED)
    with pytest.raises(EOFError):
        next(found)

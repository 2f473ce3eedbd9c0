from __future__ import annotations

import contextlib
import marshal
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bytecode_lines import walk
from bytecode_lines.marshalled import MarshalError, RawCode, read
from compiled import FIXTURES

OURS = sys.version_info[:2]
CONSTANTS = (
    "(-12345678901234567890, 2**70, 0, 1.5, 2j, None, True, ..., b'bytes', 'ä', 'a' * 300, {!r},"
    " frozenset, 'x' in {{1, 2, (3, None)}})"
)


def test_constants_of_all_kinds_are_skipped() -> None:
    text = CONSTANTS.format("\u20ac") + "\ndef after(a, *, b): return None\n"
    code = compile(text, "f", "exec")
    ours, theirs = read(marshal.dumps(code), OURS), list(walk(code))
    assert list(walk(ours, OURS)) == theirs
    assert [inner.name for inner in theirs] == ["<module>", "after"]


def test_references_are_the_same_object() -> None:
    # Two functions with one file name and one line table: marshal writes each once.
    code = compile("f = lambda: 1\ng = lambda: 1\n", "shared", "exec")
    first, second = (c for c in read(marshal.dumps(code), OURS).co_consts if isinstance(c, RawCode))
    assert first.co_filename is second.co_filename == "shared"


@pytest.mark.parametrize("value", [None, 1, "text", (1, 2), {1: 2}])
def test_other_objects_are_not_code(value: Any) -> None:
    with pytest.raises(MarshalError, match="holds no code"):
        read(marshal.dumps(value), OURS)


def test_too_deep_nesting_is_an_error() -> None:
    with pytest.raises(MarshalError, match="recursion"):
        read(b")\x01" * 100_000 + b"N", OURS)


def test_a_size_beyond_the_end_is_an_error() -> None:
    for kind in b"([<>sutaA":
        with pytest.raises(MarshalError, match="it ends within"):
            read(bytes([kind]) + b"\xff\xff\xff\x7f", OURS)


def test_an_object_within_itself_is_an_error() -> None:
    with pytest.raises(MarshalError, match="one that contains it"):
        read(b"\xa9\x01r\0\0\0\0", OURS)


CONTENTS = [
    (path.read_bytes()[16 if version >= (3, 7) else 8 if version < (3, 0) else 12 :], version)
    for version in [(2, 7), (3, 6), (3, 9), (3, 11), (3, 14)]
    for path in [FIXTURES / f"traps.{version[0]}.{version[1]}.pyc"]
]


@given(st.sampled_from(CONTENTS), st.data())
def test_truncated_bytes_are_an_error(
    content: tuple[bytes, tuple[int, int]], data: st.DataObject
) -> None:
    marshalled, version = content
    length = data.draw(st.integers(0, len(marshalled) - 1))
    with pytest.raises(MarshalError):
        read(marshalled[:length], version)


@settings(max_examples=300)
@given(st.sampled_from(CONTENTS), st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255))))
def test_damaged_bytes_give_code_or_an_error(
    content: tuple[bytes, tuple[int, int]], changes: list[tuple[int, int]]
) -> None:
    marshalled, version = bytearray(content[0]), content[1]
    for position, byte in changes:
        marshalled[position] = byte
    with contextlib.suppress(MarshalError):
        list(walk(read(bytes(marshalled), version), version))


@given(st.binary(max_size=60), st.sampled_from([version for _, version in CONTENTS]))
@example(b"", (3, 11))
@example(b"\xff", (3, 11))
def test_any_bytes_are_code_or_an_error(content: bytes, version: tuple[int, int]) -> None:
    with pytest.raises(MarshalError):
        read(content, version)

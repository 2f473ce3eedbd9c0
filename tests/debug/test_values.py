"""Values of maps, by types in BTF and without them."""

import struct

import pytest

from bpfmatrix.debug.in_gdb.values import Types, plain

STRINGS = [
    "",
    "int",
    "char",
    "when",
    "comm",
    "state",
    "RUNS",
    "event",
    "low",
    "high",
    "on",
    ".data",
]
OFFSETS = {text: number for number, text in enumerate(STRINGS)}
INT, ARRAY, STRUCT, ENUM, TYPEDEF, POINTER, VAR, DATASEC = 1, 3, 4, 6, 8, 2, 14, 15


def type_of(
    kind: int, size: int, *rest: int, name: str = "", count: int = 0, bits: int = 0
) -> bytes:
    info = kind << 24 | count | bits << 31
    return struct.pack(f"<III{len(rest)}I", OFFSETS[name], info, size, *rest)


TYPES = {
    1: type_of(INT, 4, 1 << 24 | 32, name="int"),
    2: type_of(INT, 1, 1 << 24 | 8, name="char"),
    3: type_of(ARRAY, 0, 2, 1, 8),
    4: type_of(ENUM, 4, OFFSETS["RUNS"], 3, count=1),
    5: type_of(
        STRUCT,
        20,
        *(OFFSETS["when"], 1, 0, OFFSETS["comm"], 3, 32, OFFSETS["state"], 4, 96, 0, 1, 128),
        name="event",
        count=4,
    ),
    6: type_of(TYPEDEF, 5),
    7: type_of(ARRAY, 0, 1, 1, 3),
    8: type_of(POINTER, 1),
    9: type_of(
        STRUCT,
        4,
        *(OFFSETS["low"], 1, 3 << 24 | 0, OFFSETS["high"], 1, 29 << 24 | 3),
        count=2,
        bits=1,
    ),
    10: type_of(TYPEDEF, 10),
    11: type_of(INT, 1, 4 << 24 | 8),
    12: type_of(VAR, 1, 1, name="when"),
    13: type_of(VAR, 3, 1, name="comm"),
    14: type_of(DATASEC, 12, *(12, 0, 4, 13, 4, 8), name=".data", count=2),
}
READER = Types(lambda id, size: TYPES[id][:size], STRINGS.__getitem__)


@pytest.mark.parametrize(
    ("id", "data", "text"),
    [
        (1, struct.pack("<i", -5), "-5"),
        (3, b"bash\0\0\0\0", '"bash"'),
        (3, b"\1\2\3\0\0\0\0\4", "[1, 2, 3, 0, 0, 0, 0, 4]"),
        (4, struct.pack("<I", 3), "RUNS"),
        (4, struct.pack("<I", 9), "9"),
        (
            6,
            struct.pack("<i8sIi", 7, b"sh", 3, -1),
            '{.when = 7, .comm = "sh", .state = RUNS, -1}',
        ),
        (7, struct.pack("<3i", 1, 2, 3), "[1, 2, 3]"),
        (8, struct.pack("<Q", 0xFFFF8880), "0xffff8880"),
        (9, struct.pack("<I", 5 | 77 << 3), "{.low = 5, .high = 77}"),
        # A type that stands for itself is in no valid BTF.
        (10, b"\1\0\0\0", "1"),
        (11, b"\1", "true"),
        (14, struct.pack("<i8s", 42, b"abc"), 'when = 42, comm = "abc"'),
    ],
)
def test_a_value_by_its_type(id: int, data: bytes, text: str) -> None:
    assert READER.text(id, data) == text


def test_a_value_without_a_type() -> None:
    assert plain(struct.pack("<Q", 42)) == "42"
    assert plain(b"hello\0") == "68 65 6c 6c 6f 00"

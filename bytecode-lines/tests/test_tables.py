from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import encoders
from bytecode_lines import tables
from bytecode_lines.errors import TableError
from bytecode_lines.tables import Format, Range

FIRST = 1000
LENGTHS = st.integers(1, 400)
LINES = st.integers(1, 3000)


def consecutive(parts: Iterable[tuple[int, tuple[int | None, ...]]], unit: int) -> list[Range]:
    """Return consecutive ranges of some code units; equal neighbours become one."""
    ranges: list[Range] = []
    for units, position in parts:
        start = ranges[-1].end if ranges else 0
        if ranges and ranges[-1][2:] == tuple(position):
            ranges[-1] = ranges[-1]._replace(end=start + units * unit)
        else:
            ranges.append(Range(start, start + units * unit, *position))
    return ranges


def merged(ranges: Iterable[Range]) -> list[Range]:
    return consecutive(((range.end - range.start, tuple(range[2:])) for range in ranges), unit=1)


def decode(format: Format, table: bytes, first_line: int, code_length: int) -> list[Range]:
    """Decode a table, and check that `locate` agrees at the first and last byte of each range."""
    ranges = tables.decode(table, format.value, first_line, code_length)
    for range in ranges:
        for offset in (range.start, range.end - 1):
            assert tables.locate(table, format.value, first_line, offset) == tuple(range[2:])
    end = ranges[-1].end if ranges else 0
    if end < code_length:
        assert tables.locate(table, format.value, first_line, end) is None
    return ranges


@st.composite
def lines(
    draw: st.DrawFn, unit: int = 1, rising: bool = False, missing: bool = False
) -> list[Range]:
    line = LINES | st.none() if missing else LINES
    parts = draw(st.lists(st.tuples(LENGTHS, line), min_size=1, max_size=30))
    values: Sequence[int | None] = [value for _, value in parts]
    if rising:
        values = sorted(FIRST + value for value in values if value is not None)
    lengths = [units for units, _ in parts]
    both = zip(lengths, values)
    return consecutive([(units, (v, v, None, None)) for units, v in both], unit)


@st.composite
def positions(draw: st.DrawFn) -> tuple[int | None, ...]:
    line = draw(LINES)
    column = draw(st.integers(0, 300))
    end_line = line + draw(st.sampled_from([0, 0, 0, 1, 70]))
    end_column = draw(st.integers(0, 300) | st.just(column + 3))
    whole = (line, end_line, column, end_column)
    none = (None, None, None, None)
    return draw(st.sampled_from([whole, whole, (line, line, None, None), none]))


LOCATIONS = st.lists(st.tuples(LENGTHS, positions()), min_size=1, max_size=30)


@given(lines(rising=True))
def test_unsigned_lnotab(ranges: list[Range]) -> None:
    table = encoders.lnotab(ranges, FIRST, signed=False)
    assert merged(decode(Format.UNSIGNED_LNOTAB, table, FIRST, ranges[-1].end)) == ranges


@given(lines(unit=2))
def test_signed_lnotab(ranges: list[Range]) -> None:
    table = encoders.lnotab(ranges, FIRST, signed=True)
    assert merged(decode(Format.SIGNED_LNOTAB, table, FIRST, ranges[-1].end)) == ranges


@given(lines(unit=2, missing=True))
def test_line_table(ranges: list[Range]) -> None:
    table = encoders.line_table(ranges, FIRST)
    assert merged(decode(Format.LINE_TABLE, table, FIRST, ranges[-1].end)) == ranges


@given(LOCATIONS)
def test_location_table(parts: list[tuple[int, tuple[int | None, ...]]]) -> None:
    ranges = consecutive(parts, 2)
    table = encoders.location_table(ranges, FIRST)
    assert merged(decode(Format.LOCATION_TABLE, table, FIRST, ranges[-1].end)) == ranges


@given(st.sampled_from(Format), st.binary(max_size=200), st.integers(0, 500))
@example(Format.LOCATION_TABLE, b"\xf7" + b"\x7f" * 199, 500)
def test_any_bytes_give_ranges_within_the_code_or_an_error(
    format: Format, table: bytes, code_length: int
) -> None:
    try:
        ranges = decode(format, table, FIRST, code_length)
    except TableError:
        return
    ends = [0, *(range.end for range in ranges)]
    assert [range.start for range in ranges] == ends[:-1]
    assert all(range.start < range.end for range in ranges)
    assert ends[-1] <= code_length


def test_increments_of_no_bytes_add_up() -> None:
    # 300 lines, as of a docstring before the first statement, are split into 255 and 45.
    ranges = decode(Format.UNSIGNED_LNOTAB, bytes([0, 255, 0, 45, 6, 1]), 1, 10)
    assert ranges == [Range(0, 6, 301, 301), Range(6, 10, 302, 302)]


def test_more_bytes_than_fit_into_a_pair_add_no_line() -> None:
    ranges = decode(Format.SIGNED_LNOTAB, bytes([255, 0, 45, 1]), 1, 400)
    assert ranges == [Range(0, 300, 1, 1), Range(300, 400, 2, 2)]


def test_signed_and_unsigned_differ_in_what_goes_backwards() -> None:
    table = bytes([4, 0xFF])
    assert decode(Format.SIGNED_LNOTAB, table, 10, 8)[1].line == 9
    assert decode(Format.UNSIGNED_LNOTAB, table, 10, 8)[1].line == 265


def test_pairs_beyond_the_end_of_the_code_are_ignored() -> None:
    assert decode(Format.SIGNED_LNOTAB, bytes([4, 1, 10, 1]), 1, 8) == [
        Range(0, 4, 1, 1),
        Range(4, 8, 2, 2),
    ]


def test_minus_128_is_no_line_and_keeps_the_line() -> None:
    assert decode(Format.LINE_TABLE, bytes([2, 1, 4, 0x80, 2, 1]), 1, 8) == [
        Range(0, 2, 2, 2),
        Range(2, 6, None, None),
        Range(6, 8, 3, 3),
    ]


@pytest.mark.parametrize("version", [(2, 7), (3, 5), (3, 6), (3, 9), (3, 10), (3, 11), (3, 14)])
def test_formats_of_versions(version: tuple[int, int]) -> None:
    expected = {
        (2, 7): Format.UNSIGNED_LNOTAB,
        (3, 5): Format.UNSIGNED_LNOTAB,
        (3, 6): Format.SIGNED_LNOTAB,
        (3, 9): Format.SIGNED_LNOTAB,
        (3, 10): Format.LINE_TABLE,
        (3, 11): Format.LOCATION_TABLE,
        (3, 14): Format.LOCATION_TABLE,
    }
    assert Format.of(version) is expected[version]


@pytest.mark.parametrize("format", list(Format)[:3])
def test_half_a_pair_is_an_error(format: Format) -> None:
    with pytest.raises(TableError, match="has 3 bytes"):
        decode(format, b"\2\1\2", 1, 10)


@pytest.mark.parametrize(
    ("format", "table"),
    [(Format.LINE_TABLE, b"\4\1\2\1"), (Format.LOCATION_TABLE, b"\x81\0\x80\0")],
)
def test_a_table_for_more_code_than_there_is_is_an_error(format: Format, table: bytes) -> None:
    assert decode(format, table, 1, 6)
    with pytest.raises(TableError, match="beyond the end of the code, at byte 4"):
        decode(format, table, 1, 4)


@pytest.mark.parametrize("table", [b"\x80", b"\xd0\x01", b"\xe8", b"\xe8\x40", b"\xf0\0\0\1"])
def test_a_truncated_entry_is_an_error(table: bytes) -> None:
    with pytest.raises(TableError, match="ends too early"):
        decode(Format.LOCATION_TABLE, table, 1, 10)
    with pytest.raises(TableError, match="ends too early"):
        decode(Format.LOCATION_TABLE, table + b"\xf8", 1, 10)


def test_bytes_that_start_no_entry_are_an_error() -> None:
    with pytest.raises(TableError, match=r"byte 0 .* should start an entry"):
        decode(Format.LOCATION_TABLE, b"\0", 1, 10)


@pytest.mark.parametrize("format", [Format.LINE_TABLE, Format.LOCATION_TABLE])
def test_an_empty_table_has_no_ranges(format: Format) -> None:
    assert decode(format, b"", 1, 10) == []


@pytest.mark.parametrize("format", list(Format)[:2])
def test_an_empty_lnotab_is_one_line(format: Format) -> None:
    assert decode(format, b"", 7, 10) == [Range(0, 10, 7, 7)]

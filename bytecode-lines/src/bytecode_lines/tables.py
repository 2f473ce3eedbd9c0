"""Decodes the line tables of CPython, in their four formats.

A line table maps offsets to lines. It consists of the same bytes in memory and in a .pyc file.
`docs/formats.md` explains the formats, with an example of each.

| Python | field | format |
| --- | --- | --- |
| up to 3.5 | `co_lnotab` | pairs of increments, both unsigned |
| 3.6 to 3.9 | `co_lnotab` | the same, but the increment of the line is signed |
| 3.10 | `co_linetable` | pairs of a length and a signed increment; -128 for no line |
| from 3.11 on | `co_linetable` | entries of variable length, with columns |

CPython specifies them in `Objects/lnotab_notes.txt` (up to 3.10), `Objects/locations.md` (3.11 and
3.12) and `InternalDocs/code_objects.md` (from 3.13 on).
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple, Optional, Tuple

from bytecode_lines.errors import TableError

__all__ = ["Format", "Range", "decode", "locate"]


class Format(enum.Enum):
    """A format of line tables; the value is the first version of CPython that has it."""

    UNSIGNED_LNOTAB = (2, 7)
    SIGNED_LNOTAB = (3, 6)
    LINE_TABLE = (3, 10)
    LOCATION_TABLE = (3, 11)

    @classmethod
    def of(cls, version: tuple[int, int]) -> Format:
        """Return the format of a version of CPython, such as (3, 11), from (2, 7) on."""
        found = cls.UNSIGNED_LNOTAB
        for format in cls:  # from the oldest to the newest
            if format.value <= version:
                found = format
        return found


class Range(NamedTuple):
    """A range of bytecode that has one position in the source.

    As in CPython, lines count from 1, and columns from 0, in bytes of UTF-8; `end_column` is the
    column after the last byte. Values that the table does not have are None: columns before 3.11,
    and the line of instructions that belong to no line.
    """

    start: int
    """In bytes from the first instruction. So is `end`, which is the first byte after the range."""
    end: int
    line: int | None
    end_line: int | None = None
    column: int | None = None
    end_column: int | None = None


Place = Tuple[Optional[int], Optional[int], Optional[int], Optional[int]]
"""The line, end line, column and end column of a Range."""


def decode(
    table: bytes, version: tuple[int, int], first_line: int, code_length: int
) -> list[Range]:
    """Return the ranges of a code object of `code_length` bytes, in order and without empty ones.

    `version` is that of the CPython whose code object it is, such as (3, 11). If the ranges do not
    reach the end of the code, the rest has no line. TableError if the bytes are not a table of this
    version's format for code of this length.
    """
    return list(_decoder(version)(table, first_line, code_length))


def locate(table: bytes, version: tuple[int, int], first_line: int, offset: int) -> Place | None:
    """Return the place of one instruction; None if the table does not reach that far.

    The result is that of the range with this offset in what `decode` returns. This decodes no more
    of the table than is needed, and expects a table that `decode` accepts.
    """
    return _locator(version)(table, first_line, offset)


@functools.lru_cache(maxsize=None)
def _decoder(version: tuple[int, int]) -> Callable[[bytes, int, int], Iterator[Range]]:
    return _DECODERS[Format.of(version)]


@functools.lru_cache(maxsize=None)
def _locator(version: tuple[int, int]) -> Callable[[bytes, int, int], Place | None]:
    return _LOCATORS[Format.of(version)]


def _lnotab(table: bytes, first_line: int, code_length: int, signed: bool) -> Iterator[Range]:
    """Decode pairs of increments to the next line: in bytes of code, and in lines.

    An increment of 0 bytes changes the line that starts at the current offset. This is how an
    increment that does not fit into one pair is split into several pairs.
    """
    _require_pairs(table)
    start = offset = 0
    line = first_line
    for increment, lines in zip(table[::2], table[1::2]):
        offset += increment
        # There may be pairs for code at the end that the optimizer has removed.
        if offset >= code_length:
            break
        delta = lines - 256 if signed and lines >= 128 else lines
        # A pair without lines only moves the offset.
        if delta and offset > start:
            yield Range(start, offset, line, line)
            start = offset
        line += delta
    if start < code_length:
        yield Range(start, code_length, line, line)


def _line_table(table: bytes, first_line: int, code_length: int) -> Iterator[Range]:
    """Decode pairs that are ranges: the length in bytes, and the increment of the line."""
    _require_pairs(table)
    start, line = 0, first_line
    for length, delta in zip(table[::2], table[1::2]):
        end = start + length
        _require_within(end, code_length)
        own_line = None
        if delta != _NO_LINE:
            line += delta - 256 if delta >= 128 else delta
            own_line = line
        if length:
            yield Range(start, end, own_line, own_line)
        start = end


_NO_LINE: Final = 0x80  # -128


def _location_table(table: bytes, first_line: int, code_length: int) -> Iterator[Range]:
    """Decode entries. Their first byte is 1kkkklll: kind, and length in code units less 1."""
    # For speed, the frequent kinds are decoded inline: an index has millions of entries.
    at = start = 0
    line = first_line
    size = len(table)
    while at < size:
        first = table[at]
        if first < 0x80:
            raise TableError(f"byte {at} of the location table should start an entry")
        at += 1
        end = start + ((first & 7) + 1) * _CODE_UNIT
        _require_within(end, code_length)
        kind = (first >> 3) & 15
        if kind < _ONE_LINE:
            second = table[at] if at < size else 0x80
            if second >= 0x80:
                raise _truncated(at)
            at += 1
            left = kind * 8 + (second >> 4)
            yield Range(start, end, line, line, left, left + (second & 15))
        elif kind < _NO_COLUMNS:
            if at + 2 > size or table[at] >= 0x80 or table[at + 1] >= 0x80:
                raise _truncated(at)
            line += kind - _ONE_LINE
            yield Range(start, end, line, line, table[at], table[at + 1])
            at += 2
        elif kind == _NO_COLUMNS:
            lines, at = _number(table, at)
            line += _signed_number(lines)
            yield Range(start, end, line, line)
        elif kind == _LONG:
            lines, at = _number(table, at)
            more_lines, at = _number(table, at)
            first_column, at = _number(table, at)
            last_column, at = _number(table, at)
            line += _signed_number(lines)
            # 0 stands for no column.
            column, end_column = (n - 1 if n else None for n in (first_column, last_column))
            yield Range(start, end, line, line + more_lines, column, end_column)
        else:
            yield Range(start, end, None)
        start = end


def _number(table: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable length; return it and the offset of the next byte.

    Each byte has six bits of the number, the lowest bits first. The next bit says whether another
    byte follows.
    """
    value = shift = 0
    while True:
        byte = table[at] if at < len(table) else 0x80
        if byte >= 0x80:
            raise _truncated(at)
        at += 1
        value |= (byte & 63) << shift
        shift += 6
        if byte < 64:
            return value, at


def _signed_number(value: int) -> int:
    return -(value >> 1) if value & 1 else value >> 1


def _truncated(at: int) -> TableError:
    return TableError(f"the location table ends too early, within an entry, at byte {at}")


_CODE_UNIT: Final = 2
_ONE_LINE: Final = 10  # and 11, 12: the kind less 10 is the increment of the line
_NO_COLUMNS: Final = 13
_LONG: Final = 14
_NONE: Final = 15


def _require_pairs(table: bytes) -> None:
    if len(table) % 2:
        raise TableError(f"a line table of pairs has {len(table)} bytes")


def _require_within(end: int, code_length: int) -> None:
    if end > code_length:
        raise TableError(f"the line table goes beyond the end of the code, at byte {code_length}")


def _unsigned(table: bytes, first_line: int, code_length: int) -> Iterator[Range]:
    return _lnotab(table, first_line, code_length, signed=False)


def _signed(table: bytes, first_line: int, code_length: int) -> Iterator[Range]:
    return _lnotab(table, first_line, code_length, signed=True)


def _locate_unsigned(table: bytes, first_line: int, offset: int) -> Place | None:
    line = first_line
    for increment, lines in zip(table[::2], table[1::2]):
        offset -= increment
        if offset < 0:
            break
        line += lines
    return line, line, None, None


def _locate_signed(table: bytes, first_line: int, offset: int) -> Place | None:
    line = first_line
    for increment, lines in zip(table[::2], table[1::2]):
        offset -= increment
        if offset < 0:
            break
        line += lines - 256 if lines >= 128 else lines
    return line, line, None, None


def _locate_in_line_table(table: bytes, first_line: int, offset: int) -> Place | None:
    line = first_line
    for length, delta in zip(table[::2], table[1::2]):
        if delta != _NO_LINE:
            line += delta - 256 if delta >= 128 else delta
        offset -= length
        if offset < 0:
            return (None, None, None, None) if delta == _NO_LINE else (line, line, None, None)
    return None


def _locate_in_location_table(table: bytes, first_line: int, offset: int) -> Place | None:
    # For speed, entries before the one with the offset are only measured, and short numbers are
    # decoded inline.
    at, line = 0, first_line
    units = offset // _CODE_UNIT
    entry_units, entry_bytes, entry_lines = _ENTRY_UNITS, _ENTRY_BYTES, _ENTRY_LINES
    try:
        while True:
            head = table[at]
            units -= entry_units[head]
            if units < 0:
                return _place(table, at, line)
            length = entry_bytes[head]
            if length:
                line += entry_lines[head]
                at += length
                continue
            delta = table[at + 1]
            if delta < 64:
                at += 2
            else:
                delta, at = _number(table, at + 1)
            line += -(delta >> 1) if delta & 1 else delta >> 1
            while table[at] < 0x80:  # the other numbers
                at += 1
    except IndexError:  # the end of the table
        return None


def _place(table: bytes, at: int, line: int) -> Place:
    """Return the place of an entry; `line` is that of the entry before it."""
    kind = (table[at] >> 3) & 15
    if kind < _ONE_LINE:
        second = table[at + 1]
        left = kind * 8 + (second >> 4)
        return line, line, left, left + (second & 15)
    if kind < _NO_COLUMNS:
        line += kind - _ONE_LINE
        return line, line, table[at + 1], table[at + 2]
    if kind == _NONE:
        return None, None, None, None
    if kind == _NO_COLUMNS and table[at + 1] < 64:
        line += _signed_number(table[at + 1])
        return line, line, None, None
    found = next(_location_table(table[at:], line, 8 * _CODE_UNIT))
    return found.line, found.end_line, found.column, found.end_column


# By the first byte of an entry: how many code units it is for, how many bytes it has, or 0 if that
# depends on its numbers, and how many lines it is after the entry before it, if its numbers do not
# say that.
_ENTRY_UNITS: Final = [(head & 7) + 1 for head in range(0x100)]
_ENTRY_BYTES: Final = [0] * 0x80 + [
    {_NONE: 1, _LONG: 0, _NO_COLUMNS: 0}.get(kind, 2 if kind < _ONE_LINE else 3)
    for kind in range(16)
    for _ in range(8)
]
_ENTRY_LINES: Final = [0] * 0x80 + [
    kind - _ONE_LINE if _ONE_LINE < kind < _NO_COLUMNS else 0
    for kind in range(16)
    for _ in range(8)
]

_LOCATORS: Final[dict[Format, Callable[[bytes, int, int], Place | None]]] = {
    Format.UNSIGNED_LNOTAB: _locate_unsigned,
    Format.SIGNED_LNOTAB: _locate_signed,
    Format.LINE_TABLE: _locate_in_line_table,
    Format.LOCATION_TABLE: _locate_in_location_table,
}

_DECODERS: Final[dict[Format, Callable[[bytes, int, int], Iterator[Range]]]] = {
    Format.UNSIGNED_LNOTAB: _unsigned,
    Format.SIGNED_LNOTAB: _signed,
    Format.LINE_TABLE: _line_table,
    Format.LOCATION_TABLE: _location_table,
}

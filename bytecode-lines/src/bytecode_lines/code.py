"""Code objects of any version of CPython, with what is needed to find their lines."""

from __future__ import annotations

import functools
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from bytecode_lines.errors import BytecodeLinesError
from bytecode_lines.identity import Identity
from bytecode_lines.tables import Range, decode, locate

__all__ = [
    "AnyCode",
    "Code",
    "LineMap",
    "OffsetError",
    "Position",
    "lines_of",
    "position_at",
    "walk",
]

_OPTIMIZED: Final = 0x1  # CO_OPTIMIZED: functions have it, modules and class bodies do not


class OffsetError(BytecodeLinesError):
    """An offset is beyond the end of its code."""


class AnyCode(Protocol):
    """A code object of this Python, or one of another version that xdis has read."""

    @property
    def co_name(self) -> str: ...
    @property
    def co_filename(self) -> str: ...
    @property
    def co_firstlineno(self) -> int: ...
    @property
    def co_argcount(self) -> int: ...
    @property
    def co_flags(self) -> int: ...
    @property
    def co_code(self) -> bytes: ...
    @property
    def co_consts(self) -> tuple[Any, ...]: ...


class Position(NamedTuple):
    """Where an instruction is in the source. A field is None if the code object does not have it.

    Lines count from 1, columns from 0 and in bytes of UTF-8.
    """

    line: int | None
    end_line: int | None = None
    column: int | None = None
    end_column: int | None = None
    note: str = ""
    """A remark about the line; mostly empty."""


NOT_STARTED: Final = "the frame had not started: its first line"
NO_TABLE: Final = "the code has no line table: its first line"
NO_LINE: Final = "the instruction belongs to no line"
IMPLICIT_RETURN: Final = "the return at the end, which up to Python 3.9 counts to the line above"


@dataclass(frozen=True)
class LineMap:
    """The lines of one code object: `at` returns the line of an offset, `ranges` has all lines."""

    ranges: Sequence[Range]
    first_line: int
    code_length: int
    """In bytes."""
    implicit_return: int | None = None
    """Up to 3.9, the offset of a return that the compiler added at the end of the code."""

    def at(self, offset: int) -> Position:
        """Return the position of an instruction; the offset, in bytes, may be in its inline cache.

        OffsetError if the offset is beyond the end of the code.
        """
        if offset >= self.code_length:
            raise OffsetError(
                f"offset {offset} is outside of the code, of {self.code_length} bytes"
            )
        if offset < 0:
            return Position(self.first_line, note=NOT_STARTED)
        if not self.ranges:
            return Position(self.first_line, note=NO_TABLE)
        number = bisect_right(self._starts, offset) - 1
        if number < 0 or offset >= self.ranges[number].end:
            return Position(None, note=NO_LINE)
        _, _, line, end_line, column, end_column = self.ranges[number]
        note = NO_LINE if line is None else ""
        if self.implicit_return is not None and offset >= self.implicit_return:
            note = IMPLICIT_RETURN
        return Position(line, end_line, column, end_column, note)

    def starts(self) -> Iterator[tuple[int, int | None]]:
        """Yield the offsets at which another line begins, each with that line."""
        last: int | None = -1
        for range in self.ranges:
            if range.line != last:
                last = range.line
                yield range.start, last

    @functools.cached_property
    def _starts(self) -> list[int]:
        return [range.start for range in self.ranges]


@dataclass(frozen=True)
class Code:
    """A code object of one version of CPython, with only what is needed to find its lines."""

    version: tuple[int, int]
    name: str
    qualified_name: str
    filename: str
    """As it was passed to the compiler."""
    first_line: int
    arguments: int
    keyword_only: int
    flags: int
    table: bytes
    """The line table, as it is in memory."""
    code_length: int
    """In bytes."""
    implicit_return: int | None = None
    """See LineMap."""

    @classmethod
    def of(
        cls, code: AnyCode, version: tuple[int, int] | None = None, qualified_name: str = ""
    ) -> Code:
        """Convert a code object of this Python, or, with its version, one that xdis has read.

        The qualified name is needed for versions before 3.11, where code objects do not have it.
        """
        version = version or sys.version_info[:2]
        table: bytes | str = getattr(
            code, "co_linetable" if version >= (3, 10) else "co_lnotab"
        )  # xdis returns a str for Python 2
        return cls(
            version,
            code.co_name,
            getattr(code, "co_qualname", "") or qualified_name or code.co_name,
            code.co_filename,
            code.co_firstlineno,
            code.co_argcount,
            getattr(code, "co_kwonlyargcount", 0),
            code.co_flags,
            table.encode("latin-1") if isinstance(table, str) else table,
            len(code.co_code),
            _implicit_return(code, version),
        )

    @property
    def identity(self) -> Identity:
        """The identity by which a tracer reports it."""
        return Identity.of(
            self.first_line, self.arguments, self.keyword_only, self.flags, self.table
        )

    @functools.cached_property
    def lines(self) -> LineMap:
        """Its line table, decoded; TableError if that is damaged."""
        ranges = decode(self.table, self.version, self.first_line, self.code_length)
        implicit = self.implicit_return
        if implicit is not None and any(range.start == implicit for range in ranges):
            implicit = None  # a line starts there, so the return is in the source
        return LineMap(ranges, self.first_line, self.code_length, implicit)


def position_at(
    table: bytes,
    version: tuple[int, int],
    first_line: int,
    implicit_return: int | None,
    offset: int,
) -> Position:
    """Return what `LineMap.at` returns, for an offset within the code.

    This decodes only a part of the table, and is meant for few offsets of each code object. It
    expects a table that `decode` accepts.
    """
    if offset < 0:
        return Position(first_line, note=NOT_STARTED)
    if not table and version >= (3, 10):
        return Position(first_line, note=NO_TABLE)
    place = locate(table, version, first_line, offset)
    if place is None or place[0] is None:
        return Position(None, note=NO_LINE)
    is_implicit = implicit_return is not None and offset >= implicit_return
    return Position(*place, IMPLICIT_RETURN if is_implicit else "")


def lines_of(code: Code | AnyCode, version: tuple[int, int] | None = None) -> LineMap:
    """Return the lines of a code object; TableError if its line table is damaged.

    It may be a `Code`, a code object of this Python, or, with its version, one that xdis has read.
    """
    return (code if isinstance(code, Code) else Code.of(code, version)).lines


def walk(code: AnyCode, version: tuple[int, int] | None = None) -> Iterator[Code]:
    """Yield a code object and all code objects within it, the outer ones first.

    Before 3.11, the qualified names are derived from the nesting. That is wrong in one case: a
    function that is declared `global` in another function.
    """
    kind = type(code)
    stack: list[tuple[AnyCode, str, str]] = [(code, "", "")]
    while stack:
        current, prefix, name = stack.pop()
        yield Code.of(current, version, name)
        if current is not code:
            prefix = f"{name}.<locals>." if current.co_flags & _OPTIMIZED else f"{name}."
        inner = [value for value in current.co_consts if type(value) is kind]
        stack += [(value, prefix, prefix + value.co_name) for value in reversed(inner)]


def _implicit_return(code: AnyCode, version: tuple[int, int]) -> int | None:
    """Return the offset of a `return None` at the end of the code, up to 3.9.

    The compiler has added it, unless a line starts there. Later versions give such a return the
    line of the last statement that runs before it.
    """
    if version >= (3, 10):
        return None
    bytecode, consts = code.co_code, code.co_consts
    # LOAD_CONST is 100 ("d"), RETURN_VALUE is 83 ("S"). From 3.6 on, each instruction has two
    # bytes; before, an instruction with an argument has three bytes, and one without has one.
    if version >= (3, 6):
        load, argument, returns = bytecode[-4:-3], bytecode[-3:-2], bytecode[-2:-1]
        if bytecode[-6:-5] == b"\x90":  # EXTENDED_ARG
            return None
    else:
        load, argument, returns = bytecode[-4:-3], bytecode[-3:-1], bytecode[-1:]
    constant = int.from_bytes(argument, "little")
    if load != b"d" or returns != b"S" or constant >= len(consts) or consts[constant] is not None:
        return None
    return len(bytecode) - 4

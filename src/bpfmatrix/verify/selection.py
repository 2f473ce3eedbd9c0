"""Which programs are loaded, and which results are shown, in what order: as veristat's users ask.

Patterns of names choose what is loaded. Comparisons such as `insns>1000`, the order, and the number
of rows choose what is shown; they have no part in what is kept, and none in the exit status.
"""

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, TypeVar

from bpfmatrix.results.verification import ProgramResult, Verification
from bpfmatrix.verify.columns import Column, Value, column

__all__ = [
    "Comparison",
    "Names",
    "Selection",
    "SortKey",
    "may_load",
    "parse_filter",
    "parse_sort",
    "to_load",
]

Result = tuple[Verification, ProgramResult]
"""One program's result, with those of its kernel."""
T = TypeVar("T")

_COMPARISON = re.compile(r"\s*([A-Za-z_]+)\s*(==|!=|<>|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
# What veristat takes for the two verdicts.
_VERDICTS = {
    **dict.fromkeys(("true", "t", "success", "succ", "s"), "success"),
    **dict.fromkeys(("false", "f", "failure", "fail"), "failure"),
}
_ASCENDING, _DESCENDING = ("^", "_asc"), ("_desc", "v", "V", ".", "!", "_")


@dataclass(frozen=True)
class Names:
    """A filter for the names of files and programs, each by a pattern with `*`, `?` and `[a-z]`.

    A file matches by its whole name or by its last part.
    """

    file: str | None
    """None matches every file."""
    program: str | None
    """None matches every program."""
    either: bool = False
    """Whether it is enough that the file or the program matches."""
    deny: bool = False
    """Whether what matches is left out, instead of taken."""

    def matches(self, object: str, program: str) -> bool:
        """Whether a program of an object matches."""
        in_file, in_program = self._file(object), _like(program, self.program)
        return in_file or in_program if self.either else in_file and in_program

    def may_match(self, object: str) -> bool:
        """Whether a program of this object could match, whatever its name."""
        return self.either or self._file(object)

    def _file(self, object: str) -> bool:
        return _like(object, self.file) or _like(PurePath(object).name, self.file)


def _like(text: str, pattern: str | None) -> bool:
    return pattern is None or fnmatch.fnmatchcase(text, pattern)


@dataclass(frozen=True)
class Comparison:
    """A filter for results, such as `insns>1000`."""

    column: Column
    operator: str
    value: str | int
    deny: bool = False

    def matches(self, result: Result) -> bool:
        """Whether it holds. A number that is not known is neither more nor less than another."""
        found = self.column.value(*result)
        if found is None:
            return False
        compare = _OPERATORS[self.operator]
        if isinstance(self.value, str):
            return compare(fnmatch.fnmatchcase(str(found), self.value), True)
        return compare(found, self.value)


@dataclass(frozen=True)
class SortKey:
    """A column by which results are sorted."""

    column: Column
    descending: bool


def parse_filter(text: str) -> Names | Comparison:
    """Parse a filter: `GLOB`, `FILE/PROGRAM` or `COLUMN>VALUE`, each with `!` in front to deny.

    A GLOB is for the names of files and programs. In `FILE/PROGRAM`, one of the two may be empty.
    ValueError if it is none of these.
    """
    deny, rest = text.startswith("!"), text.removeprefix("!")
    if found := _COMPARISON.fullmatch(rest):
        name, compared, value = found.groups()
        return Comparison(known := column(name), compared, _value(known, compared, value), deny)
    if re.search("[<>=]", rest):
        raise ValueError("expected a comparison such as insns>1000, or a pattern of names")
    file, slash, program = rest.rpartition("/")
    if not slash and rest:
        return Names(rest, rest, True, deny)
    if not file and not program:
        raise ValueError("expected FILE/PROGRAM, a pattern of names, or a comparison")
    return Names(file or None, program or None, False, deny)


def _value(compared: Column, operator: str, text: str) -> str | int:
    if compared.number:
        try:
            return int(text.replace(",", ""))
        except ValueError:
            raise ValueError(f'"{text}" is no number, as {compared.name} is') from None
    if operator not in ("==", "=", "!=", "<>"):
        raise ValueError(f"{compared.name} is a text, so it can only be == or != to another")
    if compared.name == "verdict":
        if text.lower() not in _VERDICTS:
            raise ValueError("a verdict is success or failure")
        return _VERDICTS[text.lower()]
    return text


def parse_sort(text: str) -> tuple[SortKey, ...]:
    """Parse an order such as `insns` or `file^,insnsv`; ValueError if a column is unknown.

    A column may have `^` (`_asc`) or `v` (`_desc`) behind it. Otherwise numbers are sorted from the
    largest on, and texts from A on.
    """
    return tuple(_sort_key(word.strip()) for word in text.split(","))


def _sort_key(word: str) -> SortKey:
    for order in (*_ASCENDING, *_DESCENDING):
        name = word.removesuffix(order)
        if name and name != word:
            return SortKey(column(name), order in _DESCENDING)
    known = column(word)
    return SortKey(known, known.number)


def to_load(names: Sequence[Names], object: str, program: str) -> bool:
    """Whether a program is loaded: no filter denies it, and one takes it, if there is any."""
    if any(each.deny and each.matches(object, program) for each in names):
        return False
    takes = [each for each in names if not each.deny]
    return not takes or any(each.matches(object, program) for each in takes)


def may_load(names: Sequence[Names], object: str) -> bool:
    """Whether a program of this object could be loaded, so that the object has to be read."""
    denied = (each for each in names if each.deny and each.program is None)
    takes = [each for each in names if not each.deny]
    return not any(each.matches(object, "") for each in denied) and (
        not takes or any(each.may_match(object) for each in takes)
    )


@dataclass(frozen=True)
class Selection:
    """What is shown of the results."""

    comparisons: tuple[Comparison, ...] = ()
    order: tuple[SortKey, ...] = ()
    top: int | None = None
    """The number of rows; None for all."""

    def __bool__(self) -> bool:
        """Whether anything was chosen."""
        return bool(self.comparisons or self.order or self.top is not None)

    def shows(self, result: Result) -> bool:
        """Whether a result is shown: no comparison denies it, and one takes it, if any does."""
        if any(each.deny and each.matches(result) for each in self.comparisons):
            return False
        takes = [each for each in self.comparisons if not each.deny]
        return not takes or any(each.matches(result) for each in takes)

    def of(self, rows: Iterable[T], results: Callable[[T], Sequence[Result]]) -> list[T]:
        """Return the rows to show, in order. `results` returns those that a row is about.

        A row with several results is shown if one of them is, and its place is that of the one that
        comes first.
        """
        shown = [row for row in rows if any(self.shows(each) for each in results(row))]
        # The last key is sorted by first, as sorting keeps the order of what is equal.
        for key in reversed(self.order):
            found = [(_place(key, results(row)), row) for row in shown]
            known = [pair for pair in found if pair[0] is not None]
            known.sort(key=lambda pair: pair[0], reverse=key.descending)  # type: ignore[arg-type, return-value]
            shown = [row for _, row in known] + [row for value, row in found if value is None]
        return shown if self.top is None else shown[: self.top]


def _place(key: SortKey, results: Sequence[Result]) -> Value:
    """Return the value by which a row is sorted; None if it has none, so that it comes last."""
    values = [value for each in results if (value := key.column.value(*each)) not in (None, "")]
    first: Value = (max if key.descending else min)(values, default=None)
    return first

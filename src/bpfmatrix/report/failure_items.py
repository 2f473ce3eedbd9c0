"""What the HTML page shows of each failure before its script runs: plain texts for its template.

A failure with a line of source, or with output, is an item of its own. Programs that failed for one
code and have neither, such as those whose kernel function does not exist, share one item.
"""

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import urlencode

from markupsafe import Markup

from bpfmatrix.host.front_end import command
from bpfmatrix.report.failures import Failure, named_kernels
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Column, Kind, Row
from bpfmatrix.report.page_commands import PageCommands
from bpfmatrix.report.reason_codes import EXPLANATIONS
from bpfmatrix.report.wording import MARKS, plain
from bpfmatrix.results.verification import Code

__all__ = ["Item", "LogLine", "Member", "address", "code_text", "items"]

# So many programs without a line of source that failed for one code are one item.
_FEWEST_TOGETHER = 4
_MOST_LINES = 16
_COMMAND = re.compile(r"`invoke ([^`]*)`")
# A line of source in an explanation, such as `bpf/a.bpf.c:58  return *count;`.
_SOURCE_LINE = re.compile(r"(\S+:\d+)(\s{2,}.*)")


@dataclass(frozen=True)
class LogLine:
    """A line of what a verifier or a test said."""

    text: str
    place: str = ""
    """For a line of source: the name of its file, with the number of the line."""
    path: str = ""
    """For a line of source: the path of its file, with the number of the line."""
    is_rejected: bool = False
    """Whether it is the line of source that the verifier rejected."""


@dataclass(frozen=True)
class Member:
    """A program that shares an item with others."""

    name: str
    group: str
    kernels: str
    reason: str
    address: str


@dataclass(frozen=True)
class Item:
    """A failure, or several programs with the same code. All texts are plain."""

    outcome: str
    mark: str
    name: str
    group: str
    kernels: str
    reason: str
    source: str
    lines: tuple[LogLine, ...]
    code: str
    commands: tuple[tuple[str, str], ...]
    """What each command is for, and the command."""
    address: str
    """What follows `#` in the address of the page that opens the result; empty for several."""
    about: str
    """What is found at that address."""
    tests: str = ""
    """The names of the tests that failed because the program did not load."""
    members: tuple[Member, ...] = ()


def items(matrix: Matrix, found: Sequence[Failure], commands: PageCommands) -> list[Item]:
    """Return what the page shows of the failures, in their order."""
    together: dict[str, list[Failure]] = {}
    for failure in found:
        if _is_brief(failure):
            together.setdefault(failure.cell.code, []).append(failure)
    together = {code: same for code, same in together.items() if len(same) >= _FEWEST_TOGETHER}
    alone: dict[tuple[object, ...], list[Failure]] = {}
    for failure in found:
        if not (_is_brief(failure) and failure.cell.code in together):
            alone.setdefault(_place(failure), []).append(failure)
    return [
        *(_item(matrix, same, commands) for same in alone.values()),
        *(_shared_item(matrix, code, same) for code, same in together.items()),
    ]


def _is_brief(failure: Failure) -> bool:
    """Whether nothing is known of a program's failure but its code and reason."""
    cell, row = failure.cell, failure.row
    is_program = row is not None and row.kind is Kind.PROGRAM
    return is_program and bool(cell.code) and not cell.source and not cell.output


def _place(failure: Failure) -> tuple[object, ...]:
    """Return what failures have in common that one line of source makes; else the failure's own.

    A function that is inlined into several programs of an object fails in each of them.
    """
    cell, row = failure.cell, failure.row
    labels = tuple(column.label for column in failure.columns)
    if row is None or not cell.source:
        return row, labels, cell.reason
    return row.kind, row.group, labels, cell.code, cell.reason, cell.source


def _item(matrix: Matrix, same: Sequence[Failure], commands: PageCommands) -> Item:
    failure = same[0]
    cell, row = failure.cell, failure.row
    return Item(
        outcome=str(cell.outcome),
        mark=MARKS[cell.outcome],
        name=", ".join(plain(one.row.name) for one in same if one.row) or "the run",
        group=plain(row.group) if row and row.group != row.name else "",
        kernels=plain(named_kernels(failure.columns, matrix.columns)),
        reason=plain(cell.reason),
        source=plain(cell.source),
        lines=tuple(_lines(plain(cell.explanation or cell.output), plain(cell.source))),
        code=plain(cell.code),
        commands=tuple((what, plain(words)) for what, words in commands.of(failure).items()),
        address=address(failure.shown, row),
        about="output, full log, statistics, console" if row else "console, release, source",
        tests=plain(", ".join(dict.fromkeys(test.name for one in same for test in one.tests))),
    )


def _shared_item(matrix: Matrix, code: str, found: Sequence[Failure]) -> Item:
    columns = {column.label: column for one in found for column in one.columns}
    ordered = [column for column in matrix.columns if column.label in columns]
    programs = {one.row for one in found}
    return Item(
        outcome=str(found[0].cell.outcome),
        mark=MARKS[found[0].cell.outcome],
        name=f"{len(programs)} programs" if len(programs) > 1 else "1 program",
        group="",
        kernels=plain(named_kernels(ordered, matrix.columns)),
        reason=plain(code),
        source="",
        lines=(),
        code=plain(code),
        commands=(),
        address="",
        about="",
        members=tuple(_member(matrix, one) for one in found),
    )


def _member(matrix: Matrix, failure: Failure) -> Member:
    row = failure.row
    assert row is not None
    kernels = plain(named_kernels(failure.columns, matrix.columns))
    where = address(failure.shown, row)
    return Member(plain(row.name), plain(row.group), kernels, plain(failure.cell.reason), where)


def address(column: Column, row: Row | None) -> str:
    """Return what follows `#` in the address of a kernel or a cell; page/state.js reads it."""
    words = {"kernel": plain(column.label)}
    if row is not None:
        kind = str(int(row.kind is Kind.PROGRAM))
        words |= {"kind": kind, "group": plain(row.group), "name": plain(row.name)}
    return urlencode(words)


def _lines(text: str, source: str) -> Iterator[LogLine]:
    lines = text.rstrip().splitlines()
    for line in lines[-_MOST_LINES:]:
        if match := _SOURCE_LINE.fullmatch(line):
            name = PurePath(match[1]).name
            yield LogLine(match[2], name, match[1], match[1] == source)
        else:
            yield LogLine(line)


def code_text(code: str) -> Markup:
    """Return what a reason code means, and what to do about it, as HTML; empty for others."""
    if code not in set(Code):
        return Markup()
    found = EXPLANATIONS[Code(code)]
    return Markup(f"{_as_html(found.meaning)}<br><b>What to do:</b> {_as_html(found.advice)}")  # noqa: S704 - texts of this package


def _as_html(text: str) -> str:
    """Return the Markdown of an explanation, with its code and its links, as HTML.

    Commands, which the texts have in the form for invoke, get the form of this front end.
    """
    text = _COMMAND.sub(lambda found: f"`{command(found[1])}`", text)
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]*)`", r"<code>\1</code>", text)
    return re.sub(r"\[([^\]]*)\]\((https://[^)]*)\)", r'<a href="\2">\1</a>', text)

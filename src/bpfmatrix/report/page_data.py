"""The data of the HTML report, as the scripts of the page (`page/`) read it.

`page_data` takes a matrix and gives what JSON can hold. Outputs and logs are long, and many cells
share them, so a `TextTable` collects them, and the data has only their numbers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.report.failures import failures
from bpfmatrix.report.logs import read_log
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind, Row
from bpfmatrix.report.page_commands import PageCommands
from bpfmatrix.report.wording import plain
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Statistics

__all__ = ["LETTERS", "TextTable", "page_data"]

LETTERS = {
    Outcome.PASSED: "p",
    Outcome.FAILED: "f",
    Outcome.SKIPPED: "s",
    Outcome.TIMEOUT: "t",
    Outcome.PANIC: "k",
    Outcome.LOST: "l",
    Outcome.ERROR: "e",
    Outcome.INTERRUPTED: "i",
}
"""The letter of each outcome in the data; `page/outcomes.js` has the same."""
_NOT_RUN = "."
_LINE_ENDS = re.compile(r"\r+\n?")
# All but tab, newline and escape.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]")
_STATISTICS = tuple(field.name for field in fields(Statistics))
# To show one text, the page unpacks its whole block, which takes some milliseconds.
_BLOCK_CHARACTERS = 400_000


class TextTable:
    """The outputs and logs of a page, each distinct text once, by its number.

    `limit` is the number of characters to which `add` shortens a text.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int | None:
        """Add a text, if it is new, and return its number; None if it is empty."""
        excerpt = Excerpt(self.limit)
        excerpt.append(text)
        shown = plain(str(excerpt)).rstrip()
        return self._numbers.setdefault(shown, len(self._numbers)) if shown else None

    def blocks(self) -> tuple[list[int], list[list[str]]]:
        """Return all texts in blocks, and the number of the first text of each block."""
        starts: list[int] = []
        blocks: list[list[str]] = []
        size = 0
        for text, number in self._numbers.items():
            if not blocks or size > _BLOCK_CHARACTERS:
                starts.append(number)
                blocks.append([])
                size = 0
            blocks[-1].append(text)
            size += len(text)
        return starts, blocks


def page_data(
    matrix: Matrix, texts: TextTable, declared: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return the data of the page, and add its long texts to `texts`.

    `declared` are the ids of the kernels for which there are commands: see `PageCommands`.

    Rows and columns are known by their numbers, and short strings by their numbers in `strings`.
    The value of a key that few cells have is a dictionary by the number of the row.
    """
    groups = {(row.kind, row.group): None for row in matrix.rows}
    group_numbers = {group: number for number, group in enumerate(groups)}
    strings: dict[str, int] = {"": 0}
    commands = _commands(matrix, declared)
    return {
        "groups": [[int(kind is Kind.PROGRAM), plain(name)] for kind, name in groups],
        "rows": [[group_numbers[row.kind, row.group], plain(row.name)] for row in matrix.rows],
        "facts": [_facts(matrix, row) for row in matrix.rows],
        "columns": [
            _column(column, matrix.rows, texts, strings, commands[column.label])
            for column in matrix.columns
        ],
        "statistics": _statistics(matrix),
        "strings": list(strings),
    }


def _facts(matrix: Matrix, row: Row) -> list[list[str]]:
    for cell in matrix.row(row):
        if cell and cell.facts:
            return [[name, plain(value)] for name, value in cell.facts if name != "attached"]
    return []


def _column(
    column: Column,
    rows: Sequence[Row],
    texts: TextTable,
    strings: dict[str, int],
    commands: Mapping[Row, str],
) -> dict[str, Any]:
    cells = [column.cells.get(row) for row in rows]
    present = [(number, cell) for number, cell in enumerate(cells) if cell]

    def sparse(name: str) -> dict[int, int]:
        given = ((number, plain(getattr(cell, name))) for number, cell in present)
        return {n: strings.setdefault(text, len(strings)) for n, text in given if text}

    logs = {row: _log(column, cell.log, texts) for row, cell in _programs_with_logs(column)}
    return {
        "label": plain(column.label),
        "outcome": LETTERS[column.outcome],
        # The results of tests and of programs mostly have the same facts.
        "facts": [[n, plain(value)] for n, value in dict.fromkeys(_column_facts(column)) if value],
        "reasons": [plain(result.run.reason) for result in column.results if result.run.reason],
        "consoles": [
            number
            for result in column.results
            if (number := _log(column, result.run.console, texts)) is not None
        ],
        "cells": "".join(LETTERS[cell.outcome] if cell else _NOT_RUN for cell in cells),
        "ms": [_ms(cell.seconds) if cell else None for cell in cells],
        "reason": sparse("reason"),
        "commands": {
            number: strings.setdefault(commands[row], len(strings))
            for number, row in enumerate(rows)
            if row in commands
        },
        "expected": sparse("expected"),
        "code": sparse("code"),
        "errno": sparse("errno"),
        "source": sparse("source"),
        "explanation": {
            n: t for n, cell in present if (t := texts.add(cell.explanation)) is not None
        },
        "output": {n: t for n, cell in present if (t := texts.add(cell.output)) is not None},
        "log": {n: t for n, _ in present if (t := logs.get(rows[n])) is not None},
        "paths": sparse("log"),
    }


def _commands(matrix: Matrix, declared: frozenset[str]) -> dict[str, dict[Row, str]]:
    """Return the next commands about each failure, by the column's label and the row.

    They are in one text: a line for each, which is for what it is, a tab, and the command.
    """
    found: dict[str, dict[Row, str]] = {column.label: {} for column in matrix.columns}
    commands = PageCommands(matrix, declared)
    for failure in failures(matrix):
        if failure.row is None:
            continue
        for column in failure.columns:
            here = replace(failure, shown=column, cell=column.cells[failure.row])
            lines = [f"{what}\t{plain(words)}" for what, words in commands.of(here).items()]
            if lines:
                found[column.label][failure.row] = "\n".join(lines)
    return found


def _programs_with_logs(column: Column) -> Iterator[tuple[Row, Cell]]:
    # The log of a test is that of its whole executable, and its cell has the test's own output.
    return (
        (row, cell) for row, cell in column.cells.items() if row.kind is Kind.PROGRAM and cell.log
    )


def _log(column: Column, name: str, texts: TextTable) -> int | None:
    for result in column.results:
        data = read_log(result, name, 4 * texts.limit) if name else None
        if data is not None:
            return texts.add(_without_controls(data.decode("utf-8", errors="replace")))
    return None


def _without_controls(text: str) -> str:
    """Return a console's text without the control characters that firmware and terminals use.

    Escape sequences are left to `plain`. A carriage return alone ends a line, too.
    """
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))


def _column_facts(column: Column) -> Iterator[tuple[str, str]]:
    for result in column.results:
        run = result.run
        source = run.provenance.get("source", "")
        yield "kernel", run.kernel
        yield "release", run.release
        yield "arch", run.arch
        yield "source", source if isinstance(source, str) else ""
        yield "start", f"{run.start}, {run.accelerator}" if run.accelerator else ""
        yield "began", run.started_at
        if (ms := _ms(run.seconds)) is not None:
            yield f"{result.kind}s took", f"{ms / 1000:.1f} s"
        for path in run.dumps:
            yield "core file of the memory", path
        for warning in run.warnings:
            yield "kernel warning", warning.summary


def _ms(seconds: float) -> int | None:
    # A result from elsewhere may have any number, also infinity.
    return round(seconds * 1000) if 0 <= seconds < 1e9 else None


def _statistics(matrix: Matrix) -> dict[str, list[list[int | None]]]:
    differences = {name: _differences(matrix, name) for name in _STATISTICS}
    return {
        name: columns
        for name, columns in differences.items()
        if any(value is not None for column in columns for value in column)
    }


def _differences(matrix: Matrix, name: str) -> list[list[int | None]]:
    """Return a statistic of each column and row, as its difference to the column before.

    Most statistics differ little between kernels, so that the differences compress well.
    """
    last = [0] * len(matrix.rows)
    columns = []
    for column in matrix.columns:
        differences: list[int | None] = []
        for number, row in enumerate(matrix.rows):
            cell = column.cells.get(row)
            value = getattr(cell.statistics, name) if cell and cell.statistics else None
            differences.append(None if value is None else value - last[number])
            last[number] = last[number] if value is None else value
        columns.append(differences)
    return columns

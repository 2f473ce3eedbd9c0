"""One HTML file that opens with no network: the matrix, each cell's output, logs and statistics.

All data is JSON, compressed with gzip and written as base64, so that nothing in a result can be
read as HTML; the page's script (`page/main.js` and what it imports) unpacks it with the browser's
DecompressionStream and shows it as text only. The matrix is one block. Outputs and logs are in
blocks of their own, unpacked when a cell is opened. The page's Content-Security-Policy allows its
own script and nothing else.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import fields
from datetime import UTC, datetime
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import jinja2
from markupsafe import Markup

from bpfmatrix import __version__
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.report.collect import read_log
from bpfmatrix.report.model import Column, Kind, Matrix, Row
from bpfmatrix.report.text import headline, plain
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Statistics

__all__ = ["render"]

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
_NOT_RUN = "."
_STATISTICS = tuple(field.name for field in fields(Statistics))
# A text that is opened alone costs unpacking its block: some milliseconds.
_BLOCK_CHARACTERS = 400_000
# The longest text that is kept whole, and what is tried where all of them together are too much.
_TEXT_LIMITS = (100_000, 20_000, 5_000, 1_000, 200)
_TEXTS_BYTES = 1_200_000


def render(matrix: Matrix, title: str = "") -> str:
    """Return the page. Long texts are cut in their middle, the more so the more there are."""
    for limit in _TEXT_LIMITS:
        texts = _Texts(limit)
        data = _data(matrix, texts)
        blocks = [_packed(block) for block in texts.blocks()]
        if sum(map(len, blocks)) <= _TEXTS_BYTES:
            break
    data["blocks"] = texts.begins
    page = resources.files("bpfmatrix.report") / "page"
    script = _script(page)
    style = (page / "report.css").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string((page / "report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        title=plain(title),
        headline=plain(headline(matrix)),
        passed=matrix.passed,
        generated=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        columns=[(plain(c.label), str(c.outcome)) for c in matrix.columns],
        data=_packed(data),
        blocks=blocks,
        # Our own files, which hold nothing of a result.
        script=Markup(script),  # noqa: S704
        style=Markup(style),  # noqa: S704
        script_hash=_hash(script),
        style_hash=_hash(style),
    )


# The only forms in which the page's modules import and export, as Biome formats them.
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async function |const |function )", re.MULTILINE)


def _script(page: Traversable) -> str:
    """Return the modules of a page as one script.

    A browser does not import modules into a page that it opens as a file. So this joins them, each
    after the modules that it imports, and removes `import` and `export`. The top-level names of all
    modules are then names of one script. Two rules follow: a module imports only in the form
    `import { name } from "./module.js"`, and no two modules have the same top-level name.
    """
    modules: dict[str, str] = {}

    def add(name: str) -> None:
        if name not in modules:
            text = (page / name).read_text(encoding="utf-8")
            for imported in _IMPORT.findall(text):
                add(imported)
            modules[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add("main.js")
    return "\n".join(modules.values())


def _packed(data: Any) -> str:
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def _hash(text: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256(text))).decode()


class _Texts:
    """Each text once, by number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._numbers: dict[str, int] = {}
        self.begins: list[int] = []

    def add(self, text: str) -> int | None:
        """Return a text's number; None of an empty one."""
        excerpt = Excerpt(self.limit)
        excerpt.append(text)
        shown = plain(str(excerpt)).rstrip()
        return self._numbers.setdefault(shown, len(self._numbers)) if shown else None

    def blocks(self) -> Iterator[list[str]]:
        """Give the texts in their order; `begins` then says which each block begins with."""
        block: list[str] = []
        size = 0
        for number, text in enumerate(self._numbers):
            if not block:
                self.begins.append(number)
            block.append(text)
            size += len(text)
            if size > _BLOCK_CHARACTERS:
                yield block
                block, size = [], 0
        if block:
            yield block


def _data(matrix: Matrix, texts: _Texts) -> dict[str, Any]:
    groups = {(row.kind, row.group): None for row in matrix.rows}
    numbers = {group: number for number, group in enumerate(groups)}
    strings: dict[str, int] = {"": 0}
    return {
        "groups": [[int(kind is Kind.PROGRAM), plain(name)] for kind, name in groups],
        "rows": [[numbers[row.kind, row.group], plain(row.name)] for row in matrix.rows],
        "facts": [_facts(matrix, row) for row in matrix.rows],
        "columns": [_column(column, matrix.rows, texts, strings) for column in matrix.columns],
        "statistics": _statistics(matrix),
        "strings": list(strings),
    }


def _facts(matrix: Matrix, row: Row) -> list[list[str]]:
    for cell in matrix.row(row):
        if cell and cell.facts:
            return [[name, plain(value)] for name, value in cell.facts if name != "attached"]
    return []


def _column(
    column: Column, rows: Iterable[Row], texts: _Texts, strings: dict[str, int]
) -> dict[str, Any]:
    cells = [(number, column.cells.get(row)) for number, row in enumerate(rows)]
    there = [(number, cell) for number, cell in cells if cell]

    def sparse(name: str) -> dict[int, int]:
        given = ((number, plain(getattr(cell, name))) for number, cell in there)
        return {n: strings.setdefault(text, len(strings)) for n, text in given if text}

    found = [result.found for result in column.results]
    logs = {row: _log(column, cell.log, texts) for row, cell in _programs(column)}
    keys = list(rows)
    return {
        "label": plain(column.label),
        "outcome": LETTERS[column.outcome],
        # Tests and programs mostly have the same to say.
        "facts": [[n, plain(value)] for n, value in dict.fromkeys(_of_column(column)) if value],
        "reasons": [plain(one.reason) for one in found if one.reason],
        "consoles": [
            number
            for one in column.results
            if (number := _log(column, one.found.console, texts)) is not None
        ],
        "cells": "".join(LETTERS[cell.outcome] if cell else _NOT_RUN for _, cell in cells),
        "ms": [_ms(cell.seconds) if cell else None for _, cell in cells],
        "reason": sparse("reason"),
        "expected": sparse("expected"),
        "code": sparse("code"),
        "errno": sparse("errno"),
        "source": sparse("source"),
        "output": {n: t for n, cell in there if (t := texts.add(cell.output)) is not None},
        "log": {n: t for n, _ in there if (t := logs.get(keys[n])) is not None},
        "paths": {n: strings.setdefault(p, len(strings)) for n, c in there if (p := plain(c.log))},
    }


def _programs(column: Column) -> Iterator[tuple[Row, Any]]:
    # A test's log is that of its whole executable, of which its output is a part.
    return (
        (row, cell) for row, cell in column.cells.items() if row.kind is Kind.PROGRAM and cell.log
    )


def _log(column: Column, name: str, texts: _Texts) -> int | None:
    for result in column.results:
        data = read_log(result, name, 4 * texts.limit) if name else None
        if data is not None:
            return texts.add(data.decode("utf-8", errors="replace"))
    return None


def _of_column(column: Column) -> Iterator[tuple[str, str]]:
    for result in column.results:
        found = result.found
        source = found.provenance.get("source", "")
        yield "kernel", found.kernel
        yield "release", found.release
        yield "arch", found.arch
        yield "source", source if isinstance(source, str) else ""
        yield "start", f"{found.start}, {found.accelerator}" if found.accelerator else ""
        yield "began", found.started_at
        if (ms := _ms(found.seconds)) is not None:
            yield f"{result.kind}s took", f"{ms / 1000:.1f} s"


def _ms(seconds: float) -> int | None:
    # A result may say anything, also that it took forever.
    return round(seconds * 1000) if 0 <= seconds < 1e9 else None


def _statistics(matrix: Matrix) -> dict[str, list[list[int | None]]]:
    steps = {name: _steps(matrix, name) for name in _STATISTICS}
    return {
        name: columns
        for name, columns in steps.items()
        if any(step is not None for column in columns for step in column)
    }


def _steps(matrix: Matrix, name: str) -> list[list[int | None]]:
    """Return a statistic of each column and row as its difference to the column before.

    Most differ little between kernels, and compress to next to nothing so.
    """
    last = [0] * len(matrix.rows)
    steps = []
    for column in matrix.columns:
        step: list[int | None] = []
        for number, row in enumerate(matrix.rows):
            cell = column.cells.get(row)
            value = getattr(cell.statistics, name) if cell and cell.statistics else None
            step.append(None if value is None else value - last[number])
            last[number] = last[number] if value is None else value
        steps.append(step)
    return steps

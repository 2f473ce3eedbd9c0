"""Markdown for a pull request's comment or a CI's summary: GitHub's flavour of it.

Every text of a result stands in HTML's `<code>` or `<pre>`, with all that Markdown or HTML could
read as its own written as a character reference; so nothing that a test is called or prints makes
a link, a mention or a row.
"""

import html
import re
from collections.abc import Iterable

from bpfmatrix.report.model import Cell, Column, Kind, Matrix, Row
from bpfmatrix.report.text import counts, duration, headline, mark, plain, said
from bpfmatrix.results.outcome import Outcome

__all__ = ["render"]

# GitHub takes 65,536 characters in a comment, and 1 MiB in a step's summary.
LIMIT_CHARACTERS = 60_000
_ROWS = 200
_OUTPUT_LINES = 30
_OUTPUT_CHARACTERS = 4_000
# By CommonMark, a numeric character reference never counts as syntax.
_SYNTAX = re.compile(r"[^a-zA-Z0-9 /,;=+%]")


def render(matrix: Matrix, limit: int = LIMIT_CHARACTERS) -> str:
    """Return the page, of at most about `limit` characters: what does not fit is counted."""
    sign = "✅" if matrix.passed else "❌"
    parts = [f"### {sign} {_inline(headline(matrix))}\n"]
    if matrix.columns:
        parts.append(_kernels(matrix))
    telling = matrix.telling
    if telling and len(matrix.columns) > 1:
        parts.append(_rows(matrix, telling))
    size, left_out = sum(map(len, parts)), 0
    for part in _failures(matrix):
        if size + len(part) > limit:
            left_out += 1
        else:
            parts.append(part)
            size += len(part)
    if left_out:
        parts.append(f"And {left_out} more, which are left out here.\n")
    return "\n".join(parts)


def _kernels(matrix: Matrix) -> str:
    kinds = [kind for kind in Kind if any(row.kind is kind for row in matrix.rows)]
    lines = [_line(["kernel", "release", *(f"{kind}s" for kind in kinds), "time", ""])]
    lines.append(_line(["---"] * (4 + len(kinds))))
    for column in matrix.columns:
        found = column.results[0].found
        reasons = [result.found.reason for result in column.results if result.found.reason]
        note = _code("; ".join(reasons)) if column.outcome is not Outcome.PASSED else ""
        passed = column.outcome is Outcome.PASSED
        lines.append(
            _line(
                [
                    f"{'✅' if passed else '❌'} {_code(column.label)}",
                    _code(found.release),
                    *(_inline(counts(column, kind)) for kind in kinds),
                    duration(column.seconds),
                    note,
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _rows(matrix: Matrix, telling: list[Row]) -> str:
    """List the rows that did not pass everywhere, as a matrix."""
    lines = [
        _line(["not passed everywhere", *(_code(column.label) for column in matrix.columns)]),
        _line(["---", *([":-:"] * len(matrix.columns))]),
    ]
    for row in telling[:_ROWS]:
        name = f"{_code(row.group)} {_code(row.name)}"
        lines.append(_line([name, *(_inline(mark(cell)) for cell in matrix.row(row))]))
    more = len(telling) - _ROWS
    known = any(cell.expected for column in matrix.columns for cell in column.cells.values())
    note = "\n✗ failed, - skipped, \\* as kernels.yaml expects it\n" if known else ""
    return "\n".join(lines) + "\n" + (f"\nAnd {more} more.\n" if more > 0 else "") + note


def _failures(matrix: Matrix) -> Iterable[str]:
    for column in matrix.columns:
        for row, cell in column.bad():
            yield _failure(column, row, cell)


def _failure(column: Column, row: Row, cell: Cell) -> str:
    title = f"{_code(column.label)} {_code(row.name)} {_code(said(cell), 300)}"
    body = "\n".join(part for part in (cell.source, _clipped(cell.output)) if part)
    # A blank line would end the block of HTML.
    text = _escaped(plain(body)).replace("\n", "&#10;")
    return f"<details><summary>{title}</summary><pre>{text}</pre></details>\n"


def _clipped(output: str) -> str:
    lines = output.rstrip().splitlines()
    text = "\n".join(lines[-_OUTPUT_LINES:])[-_OUTPUT_CHARACTERS:]
    return f"...\n{text}" if len(text) < len(output.rstrip()) else text


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(text: str, limit: int = 200) -> str:
    text = " ".join(plain(text).split())
    return f"<code>{_escaped(text[:limit])}</code>" if text else ""


def _inline(text: str) -> str:
    return _escaped(" ".join(plain(text).split()))


def _escaped(text: str) -> str:
    safe = html.escape(text, quote=False)
    # What html.escape has made is already a reference.
    return re.sub(
        r"(&(?:amp|lt|gt);)|(.)",
        lambda found: found[1] or _reference(found[2]),
        safe,
        flags=re.DOTALL,
    )


def _reference(character: str) -> str:
    if character == "\n" or not character.isascii() or not _SYNTAX.match(character):
        return character
    return f"&#{ord(character)};"

"""GitHub Flavored Markdown, for comments on pull requests and for job summaries.

Every text of a result is inside the HTML elements `<code>` or `<pre>`, and each character with a
meaning in Markdown or HTML is written as a character reference. So no name or output of a test can
make a link, a mention or a row of a table.
"""

import html
import re
from collections.abc import Iterable

from bpfmatrix.host.text import counted
from bpfmatrix.report.failures import Failure, by_mark, explained_once, named_kernels
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Column, Kind, Row
from bpfmatrix.report.wording import counts, duration, headline, mark, plain, verdict
from bpfmatrix.results.outcome import Outcome

__all__ = ["code", "inline", "line", "render"]

# GitHub allows 65,536 characters in a comment, and 1 MiB in the summary of a step.
LIMIT_CHARACTERS = 60_000
_MOST_ROWS = 200
# A table with more columns is wider than the page of a pull request.
_MANY_KERNELS = 8
_MOST_OUTPUT_LINES = 30
_MOST_OUTPUT_CHARACTERS = 4_000
# The characters that are never syntax. CommonMark never reads a character reference as syntax.
_PLAIN = re.compile(r"[a-zA-Z0-9 /,;=+%]")


def render(matrix: Matrix, limit: int = LIMIT_CHARACTERS) -> str:
    """Return the report in about `limit` characters; failures that do not fit are only counted."""
    sign = "✅" if matrix.passed else "❌"
    parts = [f"### {sign} {inline(headline(matrix))}\n"]
    if matrix.columns:
        parts.append(_kernels(matrix))
    rows = matrix.notable_rows
    if rows and len(matrix.columns) > _MANY_KERNELS:
        parts.append(_row_list(matrix, rows))
    elif rows and len(matrix.columns) > 1:
        parts.append(_rows(matrix, rows))
    size, left_out = sum(map(len, parts)), 0
    for part in _failures(matrix):
        if size + len(part) > limit:
            left_out += 1
        else:
            parts.append(part)
            size += len(part)
    if left_out:
        parts.append(f"{counted(left_out, 'more part')} left out.\n")
    return "\n".join(parts)


def _kernels(matrix: Matrix) -> str:
    kinds = [kind for kind in Kind if any(row.kind is kind for row in matrix.rows)]
    lines = [line(["kernel", "release", *(f"{kind}s" for kind in kinds), "time", ""])]
    lines.append(line(["---"] * (4 + len(kinds))))
    for column in matrix.columns:
        release = column.results[0].run.release
        reasons = [result.run.reason for result in column.results if result.run.reason]
        note = code("; ".join(reasons)) if column.outcome is not Outcome.PASSED else ""
        passed = column.outcome is Outcome.PASSED
        lines.append(
            line(
                [
                    f"{'✅' if passed else '❌'} {code(column.label)}",
                    code(release),
                    *(inline(counts(column, kind)) for kind in kinds),
                    duration(column.seconds),
                    note,
                ]
            )
        )
    return "\n".join(lines) + "\n"


def _rows(matrix: Matrix, rows: list[Row]) -> str:
    """Return a table of the given rows, with a column for each kernel."""
    lines = [
        line(["not passed everywhere", *(code(column.label) for column in matrix.columns)]),
        line(["---", *([":-:"] * len(matrix.columns))]),
    ]
    for row in rows[:_MOST_ROWS]:
        name = f"{code(row.group)} {code(row.name)}"
        lines.append(line([name, *(inline(mark(cell)) for cell in matrix.row(row))]))
    return "\n".join(lines) + "\n" + _notes(matrix, rows)


def _row_list(matrix: Matrix, rows: list[Row]) -> str:
    """Return a table of the given rows that names the kernels of each outcome."""
    lines = [line(["not passed everywhere", "kernels"]), line(["---", "---"])]
    for row in rows[:_MOST_ROWS]:
        found = by_mark(matrix, row).items()
        kernels = [f"{inline(sign)} {code(named)}" for sign, named in found]
        lines.append(line([f"{code(row.group)} {code(row.name)}", ", ".join(kernels)]))
    return "\n".join(lines) + "\n" + _notes(matrix, rows)


def _notes(matrix: Matrix, rows: list[Row]) -> str:
    more = len(rows) - _MOST_ROWS
    any_expected = any(cell.expected for column in matrix.columns for cell in column.cells.values())
    note = "\n✗ failed, - skipped, \\* as kernels.yaml expects it\n" if any_expected else ""
    return (f"\nAnd {more} more.\n" if more > 0 else "") + note


def _failures(matrix: Matrix) -> Iterable[str]:
    for failure in explained_once(matrix):
        # The table of kernels has the reasons of those without a row.
        if failure.row is not None:
            yield _failure(matrix, failure, failure.row)
    warnings: dict[tuple[str, str], list[Column]] = {}
    for column in matrix.columns:
        for warning in column.warnings():
            key = (warning.summary, "\n".join(warning.lines))
            warnings.setdefault(key, []).append(column)
    for (summary, lines), columns in warnings.items():
        named = named_kernels(columns, matrix.columns)
        yield _details(f"{code(named)} kernel warning {code(summary, 300)}", lines)


def _failure(matrix: Matrix, failure: Failure, row: Row) -> str:
    cell = failure.cell
    group = f"{code(row.group)} " if row.group != row.name else ""
    named = named_kernels(failure.columns, matrix.columns)
    title = f"{code(named)} {group}{code(row.name)} {code(verdict(cell), 300)}"
    if cell.explanation:  # it begins with the line of C
        return _details(title, f"{_last_lines(cell.explanation)}\n\n{_last_lines(cell.output)}")
    names = ", ".join(test.name for test in failure.tests)
    tests = f"failed tests: {names}" if names else ""
    body = "\n".join(part for part in (tests, cell.source, _last_lines(cell.output)) if part)
    return _details(title, body)


def _details(title: str, body: str) -> str:
    """Return an element that unfolds; `title` is Markdown already."""
    # A blank line would end the HTML block.
    text = _escaped(plain(body)).replace("\n", "&#10;")
    return f"<details><summary>{title}</summary><pre>{text}</pre></details>\n"


def _last_lines(output: str) -> str:
    lines = output.rstrip().splitlines()
    text = "\n".join(lines[-_MOST_OUTPUT_LINES:])[-_MOST_OUTPUT_CHARACTERS:]
    return f"...\n{text}" if len(text) < len(output.rstrip()) else text


def line(cells: Iterable[str]) -> str:
    """Return a row of a table; its cells are Markdown already."""
    return f"| {' | '.join(cells)} |"


def code(text: str, limit: int = 200) -> str:
    """Return a text, or the beginning of a long one, in an element `code`."""
    text = " ".join(plain(text).split())
    return f"<code>{_escaped(text[:limit])}</code>" if text else ""


def inline(text: str) -> str:
    """Return a text in one line, with no syntax in it."""
    return _escaped(" ".join(plain(text).split()))


def _escaped(text: str) -> str:
    safe = html.escape(text, quote=False)
    # The results of html.escape are character references already.
    return re.sub(
        r"(&(?:amp|lt|gt);)|(.)",
        lambda found: found[1] or _reference(found[2]),
        safe,
        flags=re.DOTALL,
    )


def _reference(character: str) -> str:
    if character == "\n" or not character.isascii() or _PLAIN.match(character):
        return character
    return f"&#{ord(character)};"

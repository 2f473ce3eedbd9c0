"""What several forms of a report say in the same words."""

import re

from bpfmatrix.report.model import Cell, Column, Kind, Matrix
from bpfmatrix.results.outcome import Outcome

__all__ = ["MARKS", "counts", "duration", "headline", "mark", "plain", "said"]

MARKS = {
    Outcome.PASSED: "✓",
    Outcome.FAILED: "✗",
    Outcome.SKIPPED: "-",
    Outcome.TIMEOUT: "T",
    Outcome.PANIC: "P",
    Outcome.LOST: "L",
    Outcome.ERROR: "E",
    Outcome.INTERRUPTED: "I",
}
_NAMED = 6
_WORDS = {Kind.TEST: ("test", "tests"), Kind.PROGRAM: ("program", "programs")}
# Of a terminal: colours and cursor movements (ECMA-48), and titles of windows.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


def mark(cell: Cell | None) -> str:
    """Return the sign of a cell; nothing where the row was not run."""
    if cell is None:
        return ""
    return MARKS[cell.outcome] + ("*" if cell.expected else "")


def said(cell: Cell) -> str:
    """Return how a cell ended and why, in one line."""
    if cell.surprising:
        return f"passed unexpectedly: {cell.expected}"
    word = f"{cell.outcome} as expected" if cell.expected else str(cell.outcome)
    reason = cell.expected or cell.reason
    code = f" ({cell.code})" if cell.code else ""
    return f"{word}{code}: {reason}" if reason else f"{word}{code}"


def counts(column: Column, kind: Kind) -> str:
    """Return how many rows of a kind passed, and how many did what else; empty without any."""
    cells = [cell for row, cell in column.cells.items() if row.kind is kind]
    parts = [f"✓ {passed}"] if (passed := column.count(kind, Outcome.PASSED)) else []
    if bad := sum(cell.bad for cell in cells):
        parts.append(f"✗ {bad}")
    if skipped := column.count(kind, Outcome.SKIPPED):
        parts.append(f"- {skipped}")
    known = sum(c.outcome not in (Outcome.PASSED, Outcome.SKIPPED) and not c.bad for c in cells)
    if known:
        parts.append(f"✗* {known}")
    return "  ".join(parts)


def headline(matrix: Matrix) -> str:
    """Return what it all comes to, in one line."""
    parts = [f"{len(matrix.columns)} kernel{'s' if len(matrix.columns) != 1 else ''}"]
    for kind, words in _WORDS.items():
        if number := sum(row.kind is kind for row in matrix.rows):
            parts.append(f"{number} {words[number != 1]}")
    bad = [column for column in matrix.columns if column.outcome is not Outcome.PASSED]
    if not matrix.columns:
        return "nothing was run"
    if len(bad) > _NAMED:
        parts.append(f"{len(bad)} kernels did not pass")
    elif bad:
        parts.append(f"not passed: {', '.join(column.label for column in bad)}")
    else:
        parts.append("all passed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds as a person reads them."""
    if not 0 <= seconds < 1e9:  # a result may say anything
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def plain(text: str) -> str:
    """Return a text without a terminal's escape sequences, and without other control characters.

    What is left may stand in XML 1.0 (its production 2, Char).
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n")
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


_FORBIDDEN = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

"""Words and signs that several formats of a report share."""

import re

from bpfmatrix.host.text import printable
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind
from bpfmatrix.results.outcome import Outcome

__all__ = ["MARKS", "counts", "duration", "headline", "mark", "plain", "verdict"]

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
_MOST_NAMED_KERNELS = 6
_WORDS = {Kind.TEST: ("test", "tests"), Kind.PROGRAM: ("program", "programs")}
# The characters that XML 1.0 does not allow, beside those that `printable` replaces.
_FORBIDDEN = re.compile("[\ufffe\uffff]")


def mark(cell: Cell | None) -> str:
    """Return the sign for a cell; empty if the row was not run."""
    if cell is None:
        return ""
    return MARKS[cell.outcome] + ("*" if cell.expected else "")


def verdict(cell: Cell) -> str:
    """Return the outcome of a cell and its reason, in one line."""
    if cell.is_unexpected_pass:
        return f"passed unexpectedly: {cell.expected}"
    word = f"{cell.outcome} as expected" if cell.expected else str(cell.outcome)
    reason = cell.expected or cell.reason
    code = f" ({cell.code})" if cell.code else ""
    return f"{word}{code}: {reason}" if reason else f"{word}{code}"


def counts(column: Column, kind: Kind) -> str:
    """Return how many rows of a kind passed, failed, were skipped, and failed as expected.

    Counts of zero are left out.
    """
    cells = [cell for row, cell in column.cells.items() if row.kind is kind]
    parts = [f"✓ {passed}"] if (passed := column.count(kind, Outcome.PASSED)) else []
    if failed := sum(cell.is_failure for cell in cells):
        parts.append(f"✗ {failed}")
    if skipped := column.count(kind, Outcome.SKIPPED):
        parts.append(f"- {skipped}")
    expected = sum(
        c.outcome not in (Outcome.PASSED, Outcome.SKIPPED) and not c.is_failure for c in cells
    )
    if expected:
        parts.append(f"✗* {expected}")
    return "  ".join(parts)


def headline(matrix: Matrix) -> str:
    """Return a summary of the whole matrix, in one line."""
    parts = [f"{len(matrix.columns)} kernel{'s' if len(matrix.columns) != 1 else ''}"]
    for kind, words in _WORDS.items():
        if number := sum(row.kind is kind for row in matrix.rows):
            parts.append(f"{number} {words[number != 1]}")
    bad = [column for column in matrix.columns if column.outcome is not Outcome.PASSED]
    if not matrix.columns:
        return "nothing was run"
    if len(bad) > _MOST_NAMED_KERNELS:
        parts.append(f"{len(bad)} kernels did not pass")
    elif bad:
        parts.append(f"not passed: {', '.join(column.label for column in bad)}")
    else:
        parts.append("all passed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return a duration for people, such as `1.5 s` or `3 min 20 s`; empty if it is absurd."""
    if not 0 <= seconds < 1e9:  # a result from elsewhere may have any number
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def plain(text: str) -> str:
    """Return a text without escape sequences of a terminal and other control characters.

    The result has only characters that XML 1.0 allows (its production 2, Char).
    """
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", printable(text))

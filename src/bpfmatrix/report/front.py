"""The front of the HTML page: what its template shows before the script runs."""

from collections.abc import Iterator, Sequence
from typing import Any

from bpfmatrix.host.text import counted
from bpfmatrix.report.failure_items import items
from bpfmatrix.report.failures import Failure, explained_once, named_kernels
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Column, Kind
from bpfmatrix.report.origin import Origin
from bpfmatrix.report.page_commands import PageCommands
from bpfmatrix.report.wording import MARKS, counts, duration, plain
from bpfmatrix.results.outcome import Outcome

__all__ = ["front", "verdict"]

# So many failures are on the page before the matrix, and so many of them unfolded.
_MOST_ITEMS = 40
_OPEN_ITEMS = 3
_MOST_MEMBERS = 60
_MOST_NOTES = 40
_MOST_NAMED_KERNELS = 8

_MEANINGS = {
    Outcome.PASSED: "passed",
    Outcome.FAILED: "failed: a test failed, or a program did not load",
    Outcome.SKIPPED: "skipped",
    Outcome.TIMEOUT: "timeout: it reached its time limit",
    Outcome.PANIC: "panic: the kernel panicked",
    Outcome.LOST: "lost: the machine ended without an answer",
    Outcome.ERROR: "error: it could not be prepared or started",
    Outcome.INTERRUPTED: "interrupted by Ctrl-C",
}


def front(matrix: Matrix, origin: Origin) -> dict[str, Any]:
    """Return the variables of the page's template that tell of the results; texts are plain."""
    found = explained_once(matrix)
    shown = items(matrix, found, PageCommands(matrix, origin.declared))
    return {
        "title": plain(origin.title),
        "verdict": verdict(matrix, found),
        "meaning": plain(_meaning(matrix)),
        "passed": matrix.passed,
        "items": shown[:_MOST_ITEMS],
        "left_out": len(shown[_MOST_ITEMS:]),
        "open_items": _OPEN_ITEMS,
        "most_members": _MOST_MEMBERS,
        "notes": [plain(note) for note in _notes(matrix)],
        "kernels": [_kernel(column) for column in matrix.columns],
        "legend": list(_legend(matrix)),
        "codes": sorted({cell.code for c in matrix.columns for cell in c.cells.values()} - {""}),
    }


def verdict(matrix: Matrix, found: Sequence[Failure]) -> str:
    """Return the verdict in a few words, such as `2 failures on 1 of 17 kernels`."""
    if not matrix.columns:
        return "Nothing was run"
    if matrix.passed:
        return "All passed"
    bad = len({column.label for one in found for column in one.columns})
    of = counted(len(matrix.columns), "kernel")
    if bad < len(matrix.columns):
        where = f"{bad} of {of}"
    else:
        where = {1: of, 2: "both kernels"}.get(bad, f"all {of}")
    return f"{counted(len(found), 'failure')} on {where}"


def _meaning(matrix: Matrix) -> str:
    """Return what was run, on which kernels, and how it ended, in a sentence or two."""
    if not matrix.columns:
        return "There are no results."
    ran = [
        counted(number, str(kind))
        for kind in Kind
        if (number := sum(row.kind is kind for row in matrix.rows))
    ]
    names = ", ".join(column.label for column in matrix.columns)
    if len(matrix.columns) > _MOST_NAMED_KERNELS:
        names = counted(len(matrix.columns), "kernel")
    what = f"{' and '.join(ran) or 'No test and no program'} ran on {names}"
    cells = [cell for column in matrix.columns for cell in column.cells.values()]
    totals = {
        "passed": sum(cell.outcome is Outcome.PASSED for cell in cells),
        "failed": sum(cell.is_failure for cell in cells),
        "failed as kernels.yaml expects": sum(
            cell.outcome not in (Outcome.PASSED, Outcome.SKIPPED) and not cell.is_failure
            for cell in cells
        ),
        "skipped": sum(cell.outcome is Outcome.SKIPPED for cell in cells),
    }
    parts = [f"{count:,} {word}" for word, count in totals.items() if count]
    return f"{what}: {', '.join(parts)}." if parts else f"{what}."


def _notes(matrix: Matrix) -> Iterator[str]:
    """Yield what passed unexpectedly, and the kernels' warnings, each with its kernels."""
    unexpected: dict[str, list[Column]] = {}
    warnings: dict[str, list[Column]] = {}
    for column in matrix.columns:
        for row, cell in column.cells.items():
            if cell.is_unexpected_pass:
                text = f"{row.name} passed, although kernels.yaml expects: {cell.expected}"
                unexpected.setdefault(text, []).append(column)
        for warning in column.warnings():
            warnings.setdefault(f"kernel warning: {warning.summary}", []).append(column)
    found = [*unexpected.items(), *warnings.items()]
    for text, columns in found[:_MOST_NOTES]:
        yield f"{text} (on {named_kernels(columns, matrix.columns)})"
    if more := found[_MOST_NOTES:]:
        yield f"and {len(more)} more"


def _kernel(column: Column) -> dict[str, str]:
    shown = (f"{kind}s {found}" for kind in Kind if (found := counts(column, kind)))
    return {
        "label": plain(column.label),
        "outcome": str(column.outcome),
        "counts": ", ".join(shown),
        "time": duration(column.seconds),
    }


def _legend(matrix: Matrix) -> Iterator[dict[str, str]]:
    """Yield what the signs and colours of cells mean, of those that the matrix has."""
    cells = [cell for row in matrix.rows for cell in matrix.row(row)]
    outcomes = {cell.outcome for cell in cells if cell}
    for outcome, meaning in _MEANINGS.items():
        if outcome in outcomes:
            yield {"style": str(outcome), "mark": MARKS[outcome], "meaning": meaning}
    if any(cell and cell.expected for cell in cells):
        meaning = "the star: kernels.yaml expects it, or something else if it passed"
        yield {"style": "expected", "mark": "✗*", "meaning": meaning}
    if None in cells:
        yield {"style": "blank", "mark": "", "meaning": "blank: not run on this kernel"}
    if any(cell and cell.statistics for cell in cells):
        meaning = "darker: more instructions, or more time, than on the other kernels"
        yield {"style": "heat", "mark": "12k", "meaning": meaning}

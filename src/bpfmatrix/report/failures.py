"""What failed in a matrix: each failure once, with all kernels on which it is the same.

A kernel that could not be booted, or whose run ended without the failure of a row, is a failure
without a row.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind, Row
from bpfmatrix.report.wording import mark
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code

__all__ = ["Failure", "by_mark", "explained_once", "failures", "named_kernels"]

# Of more kernels, those on which something does not hold are named if they are this few.
_FEW_KERNELS = 3
_MANY_KERNELS = 6

_OnKernel = tuple[Column, Row | None, Cell]


@dataclass(frozen=True)
class Failure:
    """A failure that is the same on one or several kernels."""

    row: Row | None
    """The test or program; None for the kernel itself."""
    cell: Cell
    """The result on one of the kernels: on that whose verifier, or test, printed most."""
    columns: tuple[Column, ...]
    """The kernels, the oldest first."""
    shown: Column
    """The kernel that `cell` is of."""
    tests: tuple[Row, ...] = ()
    """Of a program: the tests that failed only because it and others like it did not load."""


def failures(matrix: Matrix) -> list[Failure]:
    """Return all failures: of kernels, of tests, of programs that the verifier rejected, of others.

    Two kernels have the same failure if outcome, code and reason are the same, and also the line of
    source, unless it is unknown on one of them.
    """
    found: dict[tuple[object, ...], list[_OnKernel]] = {}
    for column in matrix.columns:
        for row, cell in (*_of_kernel(column), *column.failures()):
            key = (row, cell.outcome, cell.code, cell.reason)
            found.setdefault(key, []).append((column, row, cell))
    places = {row: number for number, row in enumerate(matrix.rows)}
    alike = [_merged(same) for each in found.values() for same in _by_source(each)]
    return sorted(alike, key=lambda one: (_rank(one), places[one.row] if one.row else -1))


def explained_once(matrix: Matrix) -> list[Failure]:
    """Return all failures, but a test that failed for programs only as a part of theirs.

    That is so if `verify` could not load the programs either, on each kernel on which the test
    failed, and for the same reason.
    """
    found = failures(matrix)
    programs = {
        column.label: {_unloaded(cell) for row, cell in column.failures() if _is_program(row)}
        for column in matrix.columns
    }
    tests: dict[tuple[str, ...], dict[Row, None]] = {}
    left: list[Failure] = []
    for failure in found:
        needed = _needed(failure)
        if failure.row and needed and all(needed[label] <= programs[label] for label in needed):
            for key in set().union(*needed.values()):
                tests.setdefault(key, {})[failure.row] = None
        else:
            left.append(failure)
    return [
        replace(one, tests=tuple(tests.get(_unloaded(one.cell), ())))
        if one.row and _is_program(one.row)
        else one
        for one in left
    ]


def _needed(failure: Failure) -> dict[str, set[tuple[str, ...]]]:
    """Return the programs that a test could not load, by the label of the kernel.

    It is empty if the test failed for another reason on one of the kernels.
    """
    row = failure.row
    if row is None or _is_program(row):
        return {}
    found = {c.label: {one.failure for one in c.cells[row].rejections} for c in failure.columns}
    return found if all(found.values()) else {}


def _unloaded(cell: Cell) -> tuple[str, ...]:
    """Return what did not load and why, equal to the `failure` of a test's rejection."""
    object, _, program, *_ = cell.selection
    return object, program, cell.code, cell.reason


def _is_program(row: Row) -> bool:
    return row.kind is Kind.PROGRAM


def _by_source(found: Sequence[_OnKernel]) -> Iterable[list[_OnKernel]]:
    """Divide failures by their lines of source; those without one join the first ones."""
    first = next((cell.source for _, _, cell in found if cell.source), "")
    divided: dict[str, list[_OnKernel]] = {}
    for each in found:
        divided.setdefault(each[2].source or first, []).append(each)
    return divided.values()


def _merged(same: Sequence[_OnKernel]) -> Failure:
    shown, row, cell = max(same, key=lambda one: (one[2].source != "", len(one[2].output)))
    return Failure(row, cell, tuple(column for column, _, _ in same), shown)


def _rank(failure: Failure) -> int:
    if failure.row is None:
        return 0
    if failure.row.kind is Kind.TEST:
        return 1
    if failure.cell.code not in (Code.VERIFIER_REJECTED, Code.TOO_COMPLEX):
        return 4
    return 2 if failure.cell.source else 3


def _of_kernel(column: Column) -> Iterator[tuple[None, Cell]]:
    """Yield the failures of runs that no row of the same kind explains."""
    explained = {row.kind for row, _ in column.failures()}
    for result in column.results:
        run = result.run
        if run.outcome is not Outcome.PASSED and result.kind not in explained:
            yield None, Cell(run.outcome, run.seconds, run.reason)


def named_kernels(columns: Sequence[Column], among: Sequence[Column]) -> str:
    """Return the labels of kernels; of many, `all 17 kernels`, or `all but 5.10.262`."""
    missing = [column.label for column in among if column not in columns]
    if len(among) > _MANY_KERNELS and len(missing) <= _FEW_KERNELS:
        names = ", ".join(missing)
        return f"all but {names}" if missing else f"all {len(among)} kernels"
    return ", ".join(column.label for column in columns)


def by_mark(matrix: Matrix, row: Row) -> dict[str, str]:
    """Return the kernels on which a row is notable, by the sign of its outcome there."""
    found: dict[str, list[Column]] = {}
    for column in matrix.columns:
        if (cell := column.cells.get(row)) and cell.is_notable:
            found.setdefault(mark(cell), []).append(column)
    return {sign: named_kernels(columns, matrix.columns) for sign, columns in found.items()}

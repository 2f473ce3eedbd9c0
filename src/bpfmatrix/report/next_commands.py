"""The commands to type next about a failure, in the form that works in the project's folder."""

import shlex

from bpfmatrix.config.kernel_ids import profile_of
from bpfmatrix.host.front_end import command
from bpfmatrix.host.versions import neighbour
from bpfmatrix.report.failures import Failure
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind
from bpfmatrix.results.outcome import Outcome

__all__ = ["next_commands"]


def next_commands(matrix: Matrix, failure: Failure, declared: frozenset[str]) -> dict[str, str]:
    """Return commands by what they are for, such as `run it alone`, quoted for a shell.

    There are none for kernels that are not in `declared`, which commands do not know by their ids.
    """
    column, row, cell = failure.shown, failure.row, failure.cell
    kernel = column.kernel
    if kernel not in declared:
        return {}
    if row is None:
        return {"run it again": command(f"run --kernel {shlex.quote(kernel)} --cold")}
    good = _neighbour(matrix, failure)
    ends = ("--good", good, "--bad", kernel) if good else ()
    if row.kind is Kind.TEST:
        found = {
            "run it alone": command(shlex.join(["run", "--kernel", kernel, *cell.selection])),
            "look inside": command(shlex.join(["debug", "--kernel", kernel, *cell.selection])),
        }
    else:
        object, _, program, *options = cell.selection
        alone = ("verify", object, "--kernel", kernel, "--annotate", program, *options)
        found = {"cost of its lines": command(shlex.join(alone))} if cell.log else {}
        kernels = ",".join(dict.fromkeys(one.kernel for one in failure.columns))
        chosen = ("verify", object, "--kernels", kernels, "--filter", program, *options)
        found = {"load it again": command(shlex.join(chosen))} | found
    if ends:
        found["since when"] = command(shlex.join(["bisect", *cell.selection, *ends]))
    return found


def _neighbour(matrix: Matrix, failure: Failure) -> str:
    """Return the id of the nearest kernel, of the same architecture and profile, where it passed.

    It is empty if there is none.
    """
    bad = failure.shown
    good = [
        column.kernel
        for column in matrix.columns
        if _arch(column) == _arch(bad)
        and profile_of(column.kernel) == profile_of(bad.kernel)
        and _passed(column, failure)
    ]
    return neighbour(bad.kernel, good)


def _passed(column: Column, failure: Failure) -> bool:
    """Whether what commands select passed: a test with all of its subtests, or a program."""
    same: list[Cell] = [
        cell
        for row, cell in column.cells.items()
        if failure.row
        and row.group == failure.row.group
        and cell.selection == failure.cell.selection
    ]
    outcomes = {cell.outcome for cell in same}
    return Outcome.PASSED in outcomes and outcomes <= {Outcome.PASSED, Outcome.SKIPPED}


def _arch(column: Column) -> str:
    return column.results[0].run.arch

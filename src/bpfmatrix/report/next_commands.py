"""The commands to type next about a failure, in the form that works in the project's folder."""

import shlex
from collections.abc import Set

from bpfmatrix.config.kernel_ids import profile_of
from bpfmatrix.host.front_end import command
from bpfmatrix.host.versions import neighbour
from bpfmatrix.report.failures import Failure
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind
from bpfmatrix.results.outcome import Outcome

__all__ = ["NextCommands"]


class NextCommands:
    """The commands about the failures of one matrix."""

    def __init__(self, matrix: Matrix, declared: Set[str]) -> None:
        """`declared` are the ids of kernels that commands know: those of kernels.yaml."""
        self._declared = declared
        self._columns = matrix.columns
        # How all ended that the same words select: a test with its subtests, or a program.
        self._outcomes: dict[tuple[str, str, tuple[str, ...]], set[Outcome]] = {}
        for column in matrix.columns:
            for row, cell in column.cells.items():
                key = (column.label, row.group, cell.selection)
                self._outcomes.setdefault(key, set()).add(cell.outcome)

    def of(self, failure: Failure) -> dict[str, str]:
        """Return commands by what they are for, such as `run it alone`, quoted for a shell.

        There are none for a kernel that is not declared.
        """
        kernel, row, cell = failure.shown.kernel, failure.row, failure.cell
        if kernel not in self._declared:
            return {}
        if row is None:
            return {"run it again": _command("run", "--kernel", kernel, "--cold")}
        if row.kind is Kind.TEST:
            found = {
                "run it alone": _command("run", "--kernel", kernel, *cell.selection),
                "look inside": _command("debug", "--kernel", kernel, *cell.selection),
            }
        else:
            found = _of_program(failure, cell)
        if good := self._good(failure.shown, row.group, cell):
            ends = ("--good", good, "--bad", kernel)
            found["since when"] = _command("bisect", *cell.selection, *ends)
        return found

    def _good(self, bad: Column, group: str, cell: Cell) -> str:
        """Return the nearest kernel of the same architecture and profile on which it passed.

        It is empty if there is none.
        """
        good = [
            column.kernel
            for column in self._columns
            if _arch(column) == _arch(bad)
            and profile_of(column.kernel) == profile_of(bad.kernel)
            and self._passed(column, group, cell)
        ]
        return neighbour(bad.kernel, good)

    def _passed(self, column: Column, group: str, cell: Cell) -> bool:
        outcomes = self._outcomes.get((column.label, group, cell.selection), set())
        return Outcome.PASSED in outcomes and outcomes <= {Outcome.PASSED, Outcome.SKIPPED}


def _of_program(failure: Failure, cell: Cell) -> dict[str, str]:
    object, _, program, *options = cell.selection
    kernels = ",".join(dict.fromkeys(column.kernel for column in failure.columns))
    again = ("verify", object, "--kernels", kernels, "--filter", program, *options)
    found = {"load it again": _command(*again)}
    if cell.log:
        lines = ("verify", object, "--kernel", failure.shown.kernel, "--annotate", program)
        found["cost of its lines"] = _command(*lines, *options)
    return found


def _command(*words: str) -> str:
    return command(shlex.join(words))


def _arch(column: Column) -> str:
    return column.results[0].run.arch

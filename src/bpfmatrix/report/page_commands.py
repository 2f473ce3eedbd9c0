"""The commands that the page shows about a failure, by what its results tell of the runs."""

import itertools
from collections.abc import Sequence, Set
from dataclasses import replace

from bpfmatrix.config.kernel_ids import profile_of
from bpfmatrix.host.front_end import command_form
from bpfmatrix.host.versions import neighbour
from bpfmatrix.report.again import Again
from bpfmatrix.report.failures import Failure
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind, Row
from bpfmatrix.report.next_commands import FailedProgram, FailedTest, of_program, of_test
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.verify.plan import DEFAULT_LOADER

__all__ = ["PageCommands"]


class PageCommands:
    """The commands about the failures of one matrix."""

    def __init__(self, matrix: Matrix, declared: Set[str]) -> None:
        """`declared` are the ids of kernels that commands know: those of kernels.yaml."""
        self._declared = declared
        self._is_alone = len(matrix.columns) == 1
        self._again = Again(form=command_form())
        # The columns in which the same words select anything, and how all of it ended: a test with
        # its subtests, or a program.
        self._outcomes: dict[tuple[str, tuple[str, ...]], dict[str, set[Outcome]]] = {}
        for column in matrix.columns:
            for row, cell in column.cells.items():
                found = self._outcomes.setdefault((row.group, cell.selection), {})
                found.setdefault(column.label, set()).add(cell.outcome)
        self._alike = {
            column.label: [(one.label, one.kernel) for one in matrix.columns if _alike(one, column)]
            for column in matrix.columns
        }

    def of(self, failure: Failure) -> dict[str, str]:
        """Return commands by what they are for, such as `run it alone`, quoted for a shell.

        There are none for a kernel that is not declared.
        """
        column, row, cell = failure.shown, failure.row, failure.cell
        if column.kernel not in self._declared:
            return {}
        if row is None:
            return {"run it again": self._again.run_cold(column.kernel)}
        kernels = list(dict.fromkeys(each.kernel for each in failure.columns))
        if row.kind is Kind.TEST:
            test = self._test(column, row, cell)
            return of_test(test, _rejected(cell, kernels), is_alone=self._is_alone)
        object, _, name, *options = cell.selection
        program = FailedProgram(object, name, kernels, cell.code, options)
        good = self._good(column, row.group, cell)
        tests = (
            self._test(each, test, found)
            for each, test in itertools.product(failure.columns, failure.tests)
            if (found := each.cells.get(test)) and found.is_failure
        )
        return of_program(
            *(self._again, program, column.kernel, good),
            has_log=bool(cell.log),
            is_alone=self._is_alone,
            test=next(tests, None),
        )

    def _test(self, column: Column, row: Row, cell: Cell) -> FailedTest:
        again = replace(self._again, guest=_options(column))
        good = self._good(column, row.group, cell)
        return FailedTest(again, column.kernel, cell.selection[1], good, row.name)

    def _good(self, bad: Column, group: str, cell: Cell) -> str:
        """Return the nearest kernel of the same architecture and profile on which it passed.

        It is empty if there is none.
        """
        outcomes = self._outcomes[group, cell.selection]
        good = [
            kernel
            for label, kernel in self._alike[bad.label]
            if (found := outcomes.get(label))
            and Outcome.PASSED in found
            and found <= {Outcome.PASSED, Outcome.SKIPPED}
        ]
        return neighbour(bad.kernel, good)


def _rejected(cell: Cell, kernels: Sequence[str]) -> FailedProgram | None:
    """Return the program that a test could not load; None if it failed for another reason."""
    if not cell.rejections:
        return None
    one = cell.rejections[0]
    options = ("--loader", one.loader) if one.loader not in ("", DEFAULT_LOADER) else ()
    return FailedProgram(one.object, one.program, kernels, one.code, options)


def _options(column: Column) -> tuple[str, ...]:
    """Return the options that the tests had on a kernel, as its results tell them.

    Results of older versions tell only whether the root of the tests was that of the host.
    """
    runs = [result.run for result in column.results if isinstance(result.run, KernelRun)]
    known = next((run.options for run in runs if run.options), ())
    is_host = any(run.rootfs == "host" for run in runs) and "--rootfs" not in known
    return (*known, *(("--rootfs", "host") if is_host else ()))


def _alike(one: Column, other: Column) -> bool:
    """Whether two kernels have the same architecture and profile."""
    run, base = one.results[0].run, other.results[0].run
    return run.arch == base.arch and profile_of(run.kernel) == profile_of(base.kernel)

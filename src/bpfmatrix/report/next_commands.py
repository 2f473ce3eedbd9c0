"""The commands to type next about a failure, in the form that works in the project's folder."""

import shlex
from collections.abc import Set

from bpfmatrix.config.kernel_ids import profile_of
from bpfmatrix.host.front_end import command_form
from bpfmatrix.host.versions import neighbour
from bpfmatrix.report.failures import Failure
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Cell, Column, Kind
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code

__all__ = ["NextCommands"]


class NextCommands:
    """The commands about the failures of one matrix."""

    def __init__(self, matrix: Matrix, declared: Set[str]) -> None:
        """`declared` are the ids of kernels that commands know: those of kernels.yaml."""
        self._declared = declared
        self._form = command_form()
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
        kernel, row, cell = failure.shown.kernel, failure.row, failure.cell
        if kernel not in self._declared:
            return {}
        found: dict[str, tuple[str, ...]]
        if row is None:
            found = {"run it again": ("run", "--kernel", kernel, "--cold")}
        elif row.kind is Kind.TEST:
            words = ("--kernel", kernel, *cell.selection, *_rootfs(failure.shown))
            found = {"run it alone": ("run", *words)}
            if cell.code == Code.VERIFIER_REJECTED:
                found["where it stops"] = ("debug", *words, "--break", "rejection")
            else:
                found["look inside"] = ("debug", *words)
        else:
            found = _of_program(failure, cell)
        if row and (good := self._good(failure.shown, row.group, cell)):
            words = (*cell.selection, *(_rootfs(failure.shown) if row.kind is Kind.TEST else ()))
            found["since when"] = ("bisect", *words, "--good", good, "--bad", kernel)
        return {what: self._form(shlex.join(words)) for what, words in found.items()}

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


def _of_program(failure: Failure, cell: Cell) -> dict[str, tuple[str, ...]]:
    object, _, program, *options = cell.selection
    kernels = ",".join(dict.fromkeys(column.kernel for column in failure.columns))
    found = {
        "load it again": ("verify", object, "--kernels", kernels, "--filter", program, *options)
    }
    if cell.log:
        lines = ("verify", object, "--kernel", failure.shown.kernel, "--annotate", program)
        found["cost of its lines"] = (*lines, *options)
    return found


def _rootfs(column: Column) -> tuple[str, ...]:
    """Return the words for the root of the tests, if it was that of the host.

    Results name other roots by their digests or folders, which are often those of kernels.yaml.
    """
    is_host = any(result.run.rootfs == "host" for result in column.results)
    return ("--rootfs", "host") if is_host else ()


def _alike(one: Column, other: Column) -> bool:
    """Whether two kernels have the same architecture and profile."""
    run, base = one.results[0].run, other.results[0].run
    return run.arch == base.arch and profile_of(run.kernel) == profile_of(base.kernel)

"""The parts of a matrix: rows (tests and eBPF programs), columns (kernels), and cells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from bpfmatrix.results.kernel_run import KernelRun, Rejection
from bpfmatrix.results.outcome import KernelWarning, Outcome
from bpfmatrix.results.verification import Statistics, Verification

__all__ = ["Cell", "Column", "Kind", "Result", "Row"]


class Kind(StrEnum):
    """What a row stands for."""

    TEST = "test"
    PROGRAM = "program"


@dataclass(frozen=True)
class Result:
    """A run of one kernel, and the file that it was read from."""

    run: KernelRun | Verification
    folder: Path | None = None
    """The folder of the file, which also has the logs; None if the run was read from no file."""
    name: str = ""
    """The path of the file, as the user gave it. It tells two results of one kernel apart."""

    @property
    def kind(self) -> Kind:
        """The kind of the run's rows."""
        return Kind.TEST if isinstance(self.run, KernelRun) else Kind.PROGRAM


@dataclass(frozen=True, order=True)
class Row:
    """A test or an eBPF program."""

    kind: Kind
    group: str
    """The executable of the test, or the object of the program."""
    name: str


@dataclass(frozen=True)
class Cell:
    """The result of a test or a program on one kernel."""

    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    expected: str = ""
    code: str = ""
    """Why a program did not load (docs/reason-codes.md); of a test, why its program did not."""
    errno: str = ""
    source: str = ""
    """The line of C that was rejected, as `file:line`; of a test, that of its program."""
    explanation: str = ""
    """Of a test: why its programs did not load, in lines like the last ones of a verifier log."""
    rejections: tuple[Rejection, ...] = ()
    """Of a test: the programs that it could not load."""
    facts: tuple[tuple[str, str], ...] = ()
    """Further facts, such as the section of a program: pairs of a name and a value."""
    output: str = ""
    """The output of a test, or the last lines of the verifier log."""
    log: str = ""
    """The file with the complete output or log, a path as the result has it."""
    statistics: Statistics | None = None
    selection: tuple[str, ...] = ()
    """The words with which commands select it, such as `--run TestX`, or an object with
    `--program NAME`; unquoted."""

    @property
    def is_failure(self) -> bool:
        """Whether it failed, and kernels.yaml does not expect that."""
        return self.outcome not in (Outcome.PASSED, Outcome.SKIPPED) and not self.expected

    @property
    def is_notable(self) -> bool:
        """Whether it did not pass, or passed although something else was expected."""
        return self.outcome is not Outcome.PASSED or self.is_unexpected_pass

    @property
    def is_unexpected_pass(self) -> bool:
        """Whether it passed, although kernels.yaml expects a failure or a skip."""
        return self.outcome is Outcome.PASSED and bool(self.expected)


@dataclass(frozen=True)
class Column:
    """One kernel, with the results of one or several runs."""

    label: str
    """The short name of the column, which no other column has."""
    results: tuple[Result, ...]
    cells: Mapping[Row, Cell] = field(default_factory=dict)

    @property
    def kernel(self) -> str:
        """The kernel's id in kernels.yaml."""
        return self.results[0].run.kernel

    @property
    def version(self) -> str:
        """The upstream release of the kernel; empty if it was not booted."""
        return next((r.run.version for r in self.results if r.run.version), "")

    @property
    def outcome(self) -> Outcome:
        """`passed` if all results passed, else the outcome of the first one that did not."""
        outcomes = [result.run.outcome for result in self.results]
        others = [outcome for outcome in outcomes if outcome is not Outcome.PASSED]
        # Any other outcome matters more than `skipped`.
        return min(others, key=lambda outcome: outcome is Outcome.SKIPPED, default=Outcome.PASSED)

    @property
    def seconds(self) -> float:
        """The duration of all runs together."""
        return sum(result.run.seconds for result in self.results)

    def count(self, kind: Kind, *outcomes: Outcome) -> int:
        """Return the number of rows of a kind with one of these outcomes; without any, of all."""
        return sum(
            row.kind is kind and (not outcomes or cell.outcome in outcomes)
            for row, cell in self.cells.items()
        )

    def warnings(self) -> list[KernelWarning]:
        """Return the warnings of the kernel in all runs."""
        return [warning for result in self.results for warning in result.run.warnings]

    def failures(self) -> list[tuple[Row, Cell]]:
        """Return the rows that failed and that kernels.yaml does not expect to fail."""
        return [(row, cell) for row, cell in self.cells.items() if cell.is_failure]

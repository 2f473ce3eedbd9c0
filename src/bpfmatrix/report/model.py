"""One matrix: what was run on which kernel, and what came of it.

`Matrix.of` takes what `matrix` and `verify` found and puts it side by side: a row for each test and
each eBPF program, a column for each kernel. It reads no file.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Statistics, Verification

__all__ = ["Cell", "Column", "Kind", "Matrix", "Result", "Row"]


class Kind(StrEnum):
    """What a row is."""

    TEST = "test"
    PROGRAM = "program"


@dataclass(frozen=True)
class Result:
    """What one file holds, and where it was."""

    found: KernelRun | Verification
    folder: Path | None = None
    """The folder of the file, below which its logs are; None where they are not known."""
    name: str = ""
    """What tells it from another result of the same kernel: its file, as it was given."""

    @property
    def kind(self) -> Kind:
        """What its rows are."""
        return Kind.TEST if isinstance(self.found, KernelRun) else Kind.PROGRAM


@dataclass(frozen=True, order=True)
class Row:
    """A test, or a program."""

    kind: Kind
    group: str
    """The test's executable, or the program's object."""
    name: str


@dataclass(frozen=True)
class Cell:
    """What came of a row on a kernel."""

    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    expected: str = ""
    code: str = ""
    errno: str = ""
    source: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    """What else there is to say: a name and a value each."""
    output: str = ""
    """What a test printed, or the verifier's last lines."""
    log: str = ""
    """The file with all of it, as its result names it."""
    statistics: Statistics | None = None

    @property
    def bad(self) -> bool:
        """Whether somebody should look at it."""
        return self.outcome not in (Outcome.PASSED, Outcome.SKIPPED) and not self.expected

    @property
    def surprising(self) -> bool:
        """Whether it passed although kernels.yaml expects something else."""
        return self.outcome is Outcome.PASSED and bool(self.expected)


@dataclass(frozen=True)
class Column:
    """A kernel, and its results: at most one of each kind."""

    label: str
    """Short, and no other column has it."""
    results: tuple[Result, ...]
    cells: Mapping[Row, Cell] = field(default_factory=dict)

    @property
    def kernel(self) -> str:
        """The id of kernels.yaml."""
        return self.results[0].found.kernel

    @property
    def version(self) -> str:
        """The upstream release, where one was booted."""
        return next((r.found.version for r in self.results if r.found.version), "")

    @property
    def outcome(self) -> Outcome:
        """`passed` if all of its results are."""
        outcomes = [result.found.outcome for result in self.results]
        bad = [outcome for outcome in outcomes if outcome is not Outcome.PASSED]
        # Skipped is the least of what is not passed.
        return min(bad, key=lambda outcome: outcome is Outcome.SKIPPED, default=Outcome.PASSED)

    @property
    def seconds(self) -> float:
        """How long its runs took."""
        return sum(result.found.seconds for result in self.results)

    def count(self, kind: Kind, *outcomes: Outcome) -> int:
        """Return how many of its rows of a kind ended like one of these; without any, all."""
        return sum(
            row.kind is kind and (not outcomes or cell.outcome in outcomes)
            for row, cell in self.cells.items()
        )

    def bad(self) -> list[tuple[Row, Cell]]:
        """Return what somebody should look at."""
        return [(row, cell) for row, cell in self.cells.items() if cell.bad]


@dataclass(frozen=True)
class Matrix:
    """All columns, and all rows that any of them has."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, results: Iterable[Result]) -> "Matrix":
        """Put results side by side, the oldest kernel first.

        Two of the same kernel share a column if no row is in both, as tests and programs are, or
        the parts of a run that was divided. Else each has its own, so that none hides the other.
        """
        columns: dict[tuple[str, str, str], list[Column]] = {}
        for result in results:
            found = result.found
            cells = _cells(found)
            lanes = columns.setdefault((found.kernel, found.version, found.arch), [])
            for index, lane in enumerate(lanes):
                if not lane.cells.keys() & cells.keys() and (
                    cells or result.kind not in [known.kind for known in lane.results]
                ):
                    several = (*lane.results, result)
                    lanes[index] = replace(lane, results=several, cells={**lane.cells, **cells})
                    break
            else:
                lanes.append(Column("", (result,), cells))
        ordered = [lane for _, lanes in sorted(columns.items(), key=_age) for lane in lanes]
        named = tuple(
            replace(column, label=label)
            for column, label in zip(ordered, _labels(ordered), strict=True)
        )
        rows = {row: None for column in named for row in column.cells}
        return cls(named, tuple(sorted(rows, key=_place)))

    def row(self, row: Row) -> list[Cell | None]:
        """Return what came of a row in each column; None where it was not run."""
        return [column.cells.get(row) for column in self.columns]

    @property
    def telling(self) -> list[Row]:
        """The rows that did not pass, or not everywhere."""
        return [row for row in self.rows if any(c and _tells(c) for c in self.row(row))]

    @property
    def passed(self) -> bool:
        """Whether there is a column, and each of them passed."""
        return bool(self.columns) and all(c.outcome is Outcome.PASSED for c in self.columns)


def _tells(cell: Cell) -> bool:
    return cell.outcome is not Outcome.PASSED or cell.surprising


def _cells(found: KernelRun | Verification) -> dict[Row, Cell]:
    if isinstance(found, KernelRun):
        logs = {Path(log).stem: log for log in found.logs}
        tests = [
            (
                Row(Kind.TEST, test.binary, test.name),
                Cell(
                    test.outcome,
                    test.seconds,
                    test.reason,
                    test.expected,
                    output=test.output,
                    log=logs.get(test.binary, ""),
                ),
            )
            for test in found.tests
        ]
        return _distinct(tests)
    programs = [
        (
            Row(Kind.PROGRAM, program.object, program.program),
            Cell(
                program.outcome,
                program.seconds,
                program.reason,
                program.expected,
                code=program.code or "",
                errno=program.errno,
                source=program.source,
                facts=_facts(program.section, program.type, program.attach_to, program.attached),
                output=program.verifier_tail,
                log=program.log,
                statistics=program.statistics,
            ),
        )
        for program in found.programs
    ]
    return _distinct(programs)


def _distinct(cells: Iterable[tuple[Row, Cell]]) -> dict[Row, Cell]:
    """Number the rows of one name, as two objects of one path can't be told apart otherwise."""
    found: dict[Row, Cell] = {}
    for row, cell in cells:
        name, number = row, 1
        while name in found:
            number += 1
            name = replace(row, name=f"{row.name} ({number})")
        found[name] = cell
    return found


def _facts(
    section: str, type: str, attach_to: str, attached: bool | None
) -> tuple[tuple[str, str], ...]:
    words = {None: "", True: "yes", False: "no"}
    given = (("section", section), ("type", type), ("attach to", attach_to))
    return tuple((name, value) for name, value in (*given, ("attached", words[attached])) if value)


def _age(entry: tuple[tuple[str, str, str], list[Column]]) -> tuple[object, ...]:
    (kernel, version, arch), _ = entry
    # What could not be booted has no version; its id often begins with one.
    return (_numbers(version) or _numbers(kernel) or (1 << 30,), arch, kernel, version)


def _numbers(release: str) -> tuple[int, ...]:
    # Unlike `versions.numbers`, also of an id with a single number.
    numbers = []
    for part in release.split("-", maxsplit=1)[0].split("."):
        if not part.isascii() or not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _labels(columns: Sequence[Column]) -> list[str]:
    """Name each column as short as it can be told from all others."""
    labels = [column.version or column.kernel for column in columns]
    for more in (
        [column.results[0].found.arch for column in columns],
        [column.kernel for column in columns],
        [column.results[0].name for column in columns],
    ):
        shared = {label for label in labels if labels.count(label) > 1}
        labels = [
            f"{label} {word}".strip() if label in shared else label
            for label, word in zip(labels, more, strict=True)
        ]
    seen: dict[str, int] = {}
    for index, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        while labels[index] in labels[:index]:
            labels[index] = f"{label} #{seen[label]}"
            seen[label] += 1
    return labels


def _place(row: Row) -> tuple[object, ...]:
    return (row.kind is Kind.PROGRAM, row.group, row.name)

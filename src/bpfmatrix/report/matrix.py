"""The matrix of a report: rows for tests and eBPF programs, columns for kernels.

`Matrix.of` takes the results of `matrix` and `verify` and puts them side by side. It reads no file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from bpfmatrix.rejections.printed import says_more
from bpfmatrix.report.model import Cell, Column, Kind, Result, Row
from bpfmatrix.results.kernel_label import kernel_label
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.names import Labels
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult, Verification, labels
from bpfmatrix.verify.plan import DEFAULT_LOADER

__all__ = ["Matrix"]


@dataclass(frozen=True)
class Matrix:
    """All columns, and all rows that any column has."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, results: Iterable[Result]) -> "Matrix":
        """Put results side by side, the oldest kernel first.

        Two results of the same kernel share a column if no row is in both: for example, the tests
        and the programs, or the parts of a divided run. Otherwise each has its own column, so that
        neither hides the other.
        """
        columns: dict[tuple[str, str, str], list[Column]] = {}
        # First those of kernels that were booted: the others may belong to one of them.
        for result in sorted(results, key=lambda each: not each.run.version):
            run = result.run
            _add(result, columns.setdefault(_key(run, columns), []))
        ordered = [column for _, same in sorted(columns.items(), key=_age) for column in same]
        named = tuple(
            replace(column, label=label)
            for column, label in zip(ordered, _labels(ordered), strict=True)
        )
        rows = {row: None for column in named for row in column.cells}
        return cls(named, tuple(sorted(rows, key=_row_order)))

    def row(self, row: Row) -> list[Cell | None]:
        """Return the cell of a row in each column; None in a column where it was not run."""
        return [column.cells.get(row) for column in self.columns]

    @property
    def notable_rows(self) -> list[Row]:
        """The rows that did not pass on every kernel, or that passed unexpectedly."""
        return [row for row in self.rows if any(c and c.is_notable for c in self.row(row))]

    @property
    def passed(self) -> bool:
        """Whether there is a column and every column passed."""
        return bool(self.columns) and all(c.outcome is Outcome.PASSED for c in self.columns)


def _key(
    run: KernelRun | Verification, known: Iterable[tuple[str, str, str]]
) -> tuple[str, str, str]:
    """Return the id, release and architecture of a run's kernel.

    A run whose kernel was not booted has no release: it has that of another run of the kernel, if
    there is just one such release.
    """
    alike = [key for key in known if (key[0], key[2]) == (run.kernel, run.arch) and key[1]]
    return alike[0] if not run.version and len(alike) == 1 else (run.kernel, run.version, run.arch)


def _add(result: Result, columns: list[Column]) -> None:
    """Add a result to the first column of its kernel that has room for it, or to a new one."""
    cells = _cells(result.run)
    for index, column in enumerate(columns):
        # Without rows, such as of a kernel that was not booted, a column takes one of each kind.
        is_other_kind = result.kind not in [known.kind for known in column.results]
        if not column.cells.keys() & cells.keys() and (cells or is_other_kind):
            columns[index] = replace(
                column, results=(*column.results, result), cells={**column.cells, **cells}
            )
            return
    columns.append(Column("", (result,), cells))


def _cells(run: KernelRun | Verification) -> dict[Row, Cell]:
    if isinstance(run, KernelRun):
        names = Labels.of_results(run.tests)
        logs = {name: run.log_of(name) for name in {test.binary for test in run.tests}}
        tests = [
            (
                Row(Kind.TEST, test.binary, test.name),
                replace(
                    _of_test(run, test, logs[test.binary]),
                    selection=("--run", names.selecting(test)),
                ),
            )
            for test in run.tests
        ]
        return _distinct(tests)
    named = labels(program.key for program in run.programs)
    programs = [
        (
            Row(Kind.PROGRAM, program.object, _titled(program.program, named[program.key])),
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
                selection=_selection(program),
            ),
        )
        for program in run.programs
    ]
    return _distinct(programs)


def _of_test(run: KernelRun, test: TestResult, log: str) -> Cell:
    """Return the cell of a test: with the line of C, if its programs did not load.

    The test's own reason is kept beside it, unless it says the same.
    """
    cell = Cell(test.outcome, test.seconds, test.reason, test.expected, output=test.output, log=log)
    if not (rejections := run.rejections_of(test)):
        return cell
    first = rejections[0]
    more = f" and {len(rejections) - 1} more" if len(rejections) > 1 else ""
    own = f"; {test.reason}" if test.reason and says_more(test.reason, "") else ""
    return replace(
        cell,
        reason=f"{first.reason} ({first.title}{more}){own}",
        code=first.code,
        errno=first.errno,
        source=first.source,
        explanation="\n\n".join(one.text for one in rejections),
        rejections=tuple(rejections),
    )


def _selection(program: ProgramResult) -> tuple[str, ...]:
    loader = ("--loader", program.loader) if program.loader not in ("", DEFAULT_LOADER) else ()
    preset = ("--preset", program.preset) if program.preset else ()
    return (program.object, "--program", program.program, *loader, *preset)


def _titled(name: str, label: str) -> str:
    return f"{name} ({label})" if label else name


def _distinct(cells: Iterable[tuple[Row, Cell]]) -> dict[Row, Cell]:
    """Return the cells by their rows, and number rows that would otherwise be equal."""
    distinct: dict[Row, Cell] = {}
    for row, cell in cells:
        unique, number = row, 1
        while unique in distinct:
            number += 1
            unique = replace(row, name=f"{row.name} ({number})")
        distinct[unique] = cell
    return distinct


def _facts(
    section: str, type: str, attach_to: str, attached: bool | None
) -> tuple[tuple[str, str], ...]:
    words = {None: "", True: "yes", False: "no"}
    given = (("section", section), ("type", type), ("attach to", attach_to))
    return tuple((name, value) for name, value in (*given, ("attached", words[attached])) if value)


def _age(entry: tuple[tuple[str, str, str], list[Column]]) -> tuple[object, ...]:
    (kernel, version, arch), _ = entry
    # A kernel that could not be booted has no version, but its id often begins with one.
    return (_numbers(version) or _numbers(kernel) or (1 << 30,), arch, kernel, version)


def _numbers(release: str) -> tuple[int, ...]:
    # Unlike `versions.numbers`, this takes an id with a single number.
    numbers = []
    for part in release.split("-", maxsplit=1)[0].split("."):
        if not part.isascii() or not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def _labels(columns: Sequence[Column]) -> list[str]:
    """Return the shortest label for each column that tells it from all others."""
    ids = [column.kernel for column in columns]
    labels = [kernel_label(column.kernel, column.version, ids) for column in columns]
    for more in (
        [column.results[0].run.arch for column in columns],
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


def _row_order(row: Row) -> tuple[object, ...]:
    return (row.kind is Kind.PROGRAM, row.group, row.name)

"""The console of `invoke verify`: progress while it runs, then tables, failures, comparisons.

What it prints fits on a screen, also for hundreds of objects: then failures are grouped by their
reasons, and what loaded is only counted.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Self

from rich.text import Text

from bpfmatrix.cli.console import LiveConsole
from bpfmatrix.cli.verify_failures import WHOLE_TABLE, FailurePrinter, failures_of, is_failure
from bpfmatrix.cli.verify_rows import make_rows, results_of
from bpfmatrix.cli.verify_tables import (
    matrix_tables,
    shown_bytes,
    statistics_tables,
)
from bpfmatrix.cli.verify_told import FailedTests, Told
from bpfmatrix.config.project import Project
from bpfmatrix.host.text import counted
from bpfmatrix.report.again import PLAIN, Again
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from bpfmatrix.verify.columns import column
from bpfmatrix.verify.compare import Change, Cost
from bpfmatrix.verify.selection import Selection, SortKey

__all__ = ["VerifyConsole"]

_SHOWN_CHANGES = 10
# If still more rows than this are left, there is no table, but the failures grouped by reason.
_LONGEST_TABLE = 40
_SHOWN_COSTLIEST = 5
# Where there is no terminal, progress is told in a line at most this often, in seconds.
_TOLD_EVERY = 10.0
_NOTHING = Selection()
_NO_TESTS: FailedTests = {}


class VerifyConsole(LiveConsole):
    """The console of a verification on one or several kernels."""

    def __init__(
        self,
        project: Project,
        kernels: Sequence[str],
        again: Again = PLAIN,
        stderr: bool = False,
        raw: bool = False,
    ) -> None:
        """`again` is how the run was started, for the commands that messages name."""
        super().__init__(kernels, stderr=stderr, raw=raw)
        self._project = project
        self._again = again
        self._programs: int | None = None
        self._waiting: list[Verification] = []
        self._counts: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._began = time.monotonic()
        self._ended = threading.Event()

    def expect(self, programs: int) -> None:
        """Say how many programs are to be loaded on each kernel, for the progress."""
        self._programs = programs

    def __enter__(self) -> Self:
        """See LiveConsole. Without a terminal, a line now and then says how far it is."""
        super().__enter__()
        if not self.console.is_terminal:
            threading.Thread(target=self._tell_now_and_then, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """See LiveConsole."""
        self._ended.set()
        super().__exit__()

    def _tell_now_and_then(self) -> None:
        while not self._ended.wait(_TOLD_EVERY):
            self.tell()

    def tell(self) -> None:
        """Print a line of progress for each kernel on which programs are being loaded."""
        for kernel, (name, text, _, _) in list(self._in_progress.items()):
            if name == "load" and self._told.get(kernel) != self._counts.get(kernel, 0):
                self._told[kernel] = self._counts.get(kernel, 0)
                seconds = f"{time.monotonic() - self._began:.0f} s"
                self.line(Text(f"{self._prefix(kernel)}{name:<7} {text}"), seconds)

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        assert isinstance(result, ProgramResult)
        count = self._counts[kernel] = self._counts.get(kernel, 0) + 1
        self._failed[kernel] = self._failed.get(kernel, 0) + is_failure(result)
        whole = self._programs
        text = counted(count, "program") if not whole else f"{count} of {counted(whole, 'program')}"
        failed = f", {self._failed[kernel]} failed" if self._failed[kernel] else ""
        self.doing(kernel, "load", f"{text}{failed}, {result.program}")

    def finished(self, run: KernelRun | Verification) -> None:
        """See Observer."""
        assert isinstance(run, Verification)
        self.done(run.kernel)
        self.ended.add(run.kernel)
        if self.several:
            self._outcome(run)
        elif self.shares_terminal:
            self._waiting.append(run)

    def print_waiting(self) -> None:
        """See LiveConsole."""
        for one in self._waiting:
            self._outcome(one)
        self._waiting.clear()

    def cell(self, one: Verification) -> Text:
        """Return what the table of all kernels says of the programs on one of them."""
        return self._cell(one.outcome, _count(one, Outcome.PASSED), len(failures_of(one)))

    def explain(
        self,
        verifications: Sequence[Verification],
        selection: Selection = _NOTHING,
        tests: FailedTests = _NO_TESTS,
    ) -> Told:
        """Print which files can't be loaded, and why programs were not. Return what was told.

        `tests` are those that failed for a program that did not load.
        """
        explain = FailurePrinter(self._project, self.console, self.kernels, self._again, tests)
        explain.refused(verifications[0].refused if verifications else ())
        explain.failures(verifications, selection)
        return explain.told

    def show(
        self,
        verifications: Sequence[Verification],
        statistics: bool = False,
        selection: Selection = _NOTHING,
    ) -> None:
        """Print the tables, and what did not load: what is selected, or else what matters."""
        if self.several:
            self._matrix(verifications, selection)
        if not selection:
            self._differences(verifications)
        for one in verifications:
            if one.programs and (statistics or not self.several):
                self._statistics(one, selection, statistics)
        if not self.several:
            self.console.print()
            self._outcome(verifications[0])
        elif not_begun := [self.label(one) for one in verifications if _is_not_begun(one)]:
            self.console.print(f"interrupted, not run: {', '.join(not_begun)}")
        elif self._counts:
            total = time.monotonic() - self._began
            self.console.print(f"side by side {total:.1f} s")
        self.explain(verifications, selection)

    def _outcome(self, one: Verification) -> None:
        parts = [f"{_count(one, Outcome.PASSED)} of {counted(len(one.programs), 'program')} loaded"]
        bad = failures_of(one)
        counts = {
            "failed": len(bad),
            "failed as expected": sum(
                p.outcome not in FINE and bool(p.expected) for p in one.programs
            ),
            "loaded unexpectedly": sum(
                p.outcome is Outcome.PASSED and bool(p.expected) for p in one.programs
            ),
            "skipped": _count(one, Outcome.SKIPPED),
            "not run": sum(p.code is Code.NOT_RUN for p in one.programs),
        }
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        what = ", ".join(parts) if one.programs else (one.reason.splitlines() or ["no program"])[0]
        head = self._head(one, "verify")
        head.append(f" (cached, {one.age} ago)" if one.cached else "")
        seconds = f"  {one.seconds:.1f} s" if one.seconds and not one.cached else ""
        self.console.print(Text.assemble(head, f"  {what}{seconds}"))
        self.warnings(one)

    def _matrix(self, verifications: Sequence[Verification], selection: Selection) -> None:
        """Print programs by kernels; a large table leaves out what loaded on every kernel."""
        rows = make_rows(verifications, selection)
        shown = selection.of(rows, lambda row: results_of(verifications, row))
        rest = ""
        if not selection and len(rows) > WHOLE_TABLE:
            shown, rest = [row for row in rows if not row.all_loaded], "loaded on every kernel"
            if len(shown) > _LONGEST_TABLE:
                shown = [row for row in shown if row.loaded_somewhere]
                rest = "with one outcome on all kernels"
            if not 0 < len(shown) <= _LONGEST_TABLE:
                return
        self.console.print()
        tables = matrix_tables(verifications, shown, self.console.width, self.mark)
        for number, table in enumerate(tables):
            if number:
                self.console.print()
            self.console.print(table)
        if rest and len(shown) < len(rows):
            text = f"{counted(len(rows) - len(shown), 'more program')}, {rest}"
            self.console.print(text, style="dim")
        elif len(shown) < len(rows):
            self.console.print(f"{len(shown)} of {counted(len(rows), 'program')}", style="dim")

    def _differences(self, verifications: Sequence[Verification]) -> None:
        """Print the programs about which loaders differ, if the whole table does not show them."""
        rows = make_rows(verifications)
        differing = [row for row in rows if row.loader]
        if not differing or len(rows) <= WHOLE_TABLE:
            return
        count = len({(row.object, row.program, row.preset) for row in differing})
        self.console.print()
        self.console.print(f"the loaders differ about {counted(count, 'program')}")
        shown = differing[:_LONGEST_TABLE]
        for table in matrix_tables(verifications, shown, self.console.width, self.mark):
            self.console.print(table)
        if len(differing) > len(shown):
            text = f"{counted(len(differing) - len(shown), 'more row')}: --csv writes all results"
            self.console.print(text, style="dim")

    def _statistics(self, one: Verification, selection: Selection, whole: bool) -> None:
        """Print the statistics of a kernel; of many programs, only those that cost most."""
        rows = make_rows([one], selection)
        title = ""
        if not selection and not whole and len(rows) > WHOLE_TABLE:
            selection = Selection(order=(SortKey(column("insns"), True),), top=_SHOWN_COSTLIEST)
            title = "the programs that cost the verifier most (all of them: --statistics)"
        shown = selection.of(rows, lambda row: results_of([one], row))
        self.console.print()
        if self.several:
            self.console.print(Text(self.label(one), "bold"))
        if title:
            self.console.print(title)
        for number, table in enumerate(statistics_tables(shown, self.console.width, self.mark)):
            if number:
                self.console.print()
            self.console.print(table)
        if len(shown) < len(rows) and not title:
            self.console.print(f"{len(shown)} of {counted(len(rows), 'program')}", style="dim")
        memory = [m.memory_bytes for m in one.maps if m.memory_bytes is not None]
        if memory and len(shown) == len(rows):
            text = f"{counted(len(one.maps), 'map')}, {shown_bytes(sum(memory))} of memory"
            self.console.print(text)

    def costs(self, found: Iterable[Cost]) -> None:
        """Print which programs cost the verifier much more on one kernel than on another."""
        lines = [
            f"  {cost.program} costs {cost.factor:.1f} times as much on {cost.dear} "
            f"({cost.most:,} instructions) as on {cost.cheap} ({cost.least:,})"
            for cost in found
        ]
        if lines:
            self.console.print()
        for line in lines[:_SHOWN_CHANGES]:
            self.console.print(line)
        if len(lines) > _SHOWN_CHANGES:
            self.console.print(f"  ... and {len(lines) - _SHOWN_CHANGES} more")

    def changes(self, base: str, found: Sequence[Change]) -> None:
        """Print the differences from a saved verification, the regressions first."""
        shown = self.console.print
        shown()
        if not found:
            shown(f"compared with {base}: no changes")
            return
        worse = sum(change.regression for change in found)
        shown(
            f"compared with {base}: {counted(worse, 'regression')}, "
            f"{counted(len(found) - worse, 'other change')}",
        )
        for change in sorted(found, key=lambda one: not one.regression):
            mark = self.mark(Outcome.FAILED if change.regression else Outcome.PASSED)
            style = "red" if change.regression else "green"
            who = f"{change.kernel:<{self.width}}  " if self.several else ""
            shown(Text.assemble("  ", (mark, style), f" {who}{change.program}: {change.text}"))


def _is_not_begun(one: Verification) -> bool:
    return one.outcome is Outcome.INTERRUPTED and not one.programs


def _count(one: Verification, outcome: Outcome) -> int:
    return sum(result.outcome is outcome for result in one.programs)

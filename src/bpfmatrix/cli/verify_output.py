"""The console of `invoke verify`: progress while it runs, then tables, failures, comparisons."""

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text

from bpfmatrix.cli.console import LiveConsole
from bpfmatrix.cli.verify_tables import (
    matrix_tables,
    shown_bytes,
    shown_release,
    statistics_table,
)
from bpfmatrix.config.project import Project
from bpfmatrix.host.text import counted
from bpfmatrix.host.versions import neighbour
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from bpfmatrix.verify.compare import Change, Cost

__all__ = ["VerifyConsole"]

_SHOWN_FAILURES = 10
_SHOWN_TAIL_LINES = 14
# A table of more programs leaves out those that loaded on every kernel.
_WHOLE_TABLE = 60


class VerifyConsole(LiveConsole):
    """The console of a verification on one or several kernels."""

    def __init__(
        self, project: Project, kernels: Sequence[str], stderr: bool = False, raw: bool = False
    ) -> None:
        super().__init__(kernels, stderr=stderr, raw=raw)
        self._project = project
        self._counts: dict[str, int] = {}
        self._began = time.monotonic()

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        assert isinstance(result, ProgramResult)
        self._counts[kernel] = self._counts.get(kernel, 0) + 1
        self.doing(kernel, "load", f"{counted(self._counts[kernel], 'program')}, {result.program}")

    def finished(self, run: KernelRun | Verification) -> None:
        """See Observer."""
        assert isinstance(run, Verification)
        self.done(run.kernel)
        if self.several:
            self._outcome(run)

    def show(self, verifications: Sequence[Verification], statistics: bool = False) -> None:
        """Print the tables, and what did not load."""
        if self.several:
            self.console.print()
            self._matrix(verifications)
        for one in verifications:
            if one.programs and (statistics or not self.several):
                self.console.print()
                if self.several:
                    self.console.print(Text(shown_release(one), "bold"))
                self._statistics(one)
        if not self.several:
            self.console.print()
            self._outcome(verifications[0])
        else:
            total = time.monotonic() - self._began
            self.console.print(f"side by side {total:.1f} s")
        self._explain_failures(verifications)

    def _outcome(self, one: Verification) -> None:
        style = {Outcome.PASSED: "green", Outcome.SKIPPED: "yellow"}.get(one.outcome, "red")
        parts = [f"{_count(one, Outcome.PASSED)} of {counted(len(one.programs), 'program')} loaded"]
        bad = _failures(one)
        counts = {
            "failed": len(bad),
            "failed as expected": sum(
                p.outcome not in FINE and bool(p.expected) for p in one.programs
            ),
            "loaded unexpectedly": sum(
                p.outcome is Outcome.PASSED and bool(p.expected) for p in one.programs
            ),
            "skipped": _count(one, Outcome.SKIPPED),
        }
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        what = ", ".join(parts) if one.programs else one.reason.splitlines()[0]
        head = Text.assemble((f"{shown_release(one):<10}", "bold"), "  ", (str(one.outcome), style))
        seconds = f"  {one.seconds:.1f} s" if one.seconds else ""
        self.console.print(Text.assemble(head, f"  {what}{seconds}"))
        self.warnings(one)
        if one.outcome not in FINE:
            self.github.annotate(f"{shown_release(one)} {one.outcome}: {one.reason}")

    def _matrix(self, verifications: Sequence[Verification]) -> None:
        """Print programs by kernels; a large table leaves out what loaded on every kernel."""
        known = [{(p.object, p.program): p for p in one.programs} for one in verifications]
        rows = {key: [results.get(key) for results in known] for key in _keys(verifications)}
        shown = rows
        if len(rows) > _WHOLE_TABLE:
            shown = {key: row for key, row in rows.items() if not _all_loaded(row)}
        tables = matrix_tables(verifications, shown, self.console.width, self.mark)
        for number, table in enumerate(tables):
            if number:
                self.console.print()
            self.console.print(table)
        if left_out := len(rows) - len(shown):
            text = f"{counted(left_out, 'more program')}, loaded on every kernel"
            self.console.print(text, style="dim")

    def _statistics(self, one: Verification) -> None:
        self.console.print(statistics_table(one.programs, self.mark))
        memory = [m.memory_bytes for m in one.maps if m.memory_bytes is not None]
        if memory:
            text = f"{counted(len(one.maps), 'map')}, {shown_bytes(sum(memory))} of memory"
            self.console.print(text)

    def _explain_failures(self, verifications: Sequence[Verification]) -> None:
        """Print why kernels and programs failed; equal failures on several kernels, once."""
        shown = self.console.print
        alike: dict[tuple[str, ...], list[tuple[Verification, ProgramResult]]] = {}
        for one in verifications:
            bad = _failures(one)
            if one.outcome not in FINE and (not bad or one.outcome is not Outcome.FAILED):
                head = Text.assemble((shown_release(one), "bold"), "  ", (str(one.outcome), "red"))
                shown()
                shown(Text.assemble(head, f": {one.reason}"))
                if one.console:
                    shown(f"  console            {one.console}")
            for result in bad:
                if result.code is not Code.NOT_RUN:
                    key = (result.object, result.program, str(result.code), result.reason)
                    alike.setdefault(key, []).append((one, result))
        for failed in list(alike.values())[:_SHOWN_FAILURES]:
            self._explain_program(failed, verifications)
        if len(alike) > _SHOWN_FAILURES:
            shown(f"\n... and {len(alike) - _SHOWN_FAILURES} more failures")

    def _explain_program(
        self,
        failed: Sequence[tuple[Verification, ProgramResult]],
        among: Sequence[Verification],
    ) -> None:
        shown = self.console.print
        # The kernel with the longest log: newer kernels print more.
        one, result = max(failed, key=lambda pair: len(pair[1].verifier_tail))
        who = ", ".join(shown_release(other) for other, _ in failed)
        what = Text.assemble((who, "bold"), "  ", (result.program, "bold"))
        shown()
        shown(Text.assemble(what, f" of {result.object}: {result.reason or result.outcome}"))
        lines = result.verifier_tail.splitlines()
        if len(lines) > _SHOWN_TAIL_LINES:
            lines = ["...", *lines[-_SHOWN_TAIL_LINES:]]
        for line in lines:
            shown(f"    {line}")
        if result.code:
            shown(f"  code               {result.code}")
        for log in [other.log for _, other in failed if other.log]:
            shown(f"  full verifier log  {log}")
        if result.log:
            words = shlex.join(
                [result.object, "--annotate", result.program, "--kernel", one.kernel]
            )
            shown(f"  cost of its lines  invoke verify {words}")
        good = neighbour(one.kernel, _loaded_on(among, one.arch, result))
        if good:
            program = ("--program", result.program, result.object)
            words = shlex.join([*program, "--good", good, "--bad", one.kernel])
            shown(f"  since when         invoke bisect {words}")

    def costs(self, found: Iterable[Cost]) -> None:
        """Print which programs cost the verifier much more on one kernel than on another."""
        lines = [
            f"  {cost.program} costs {cost.factor:.1f} times as much on {cost.dear} "
            f"({cost.most:,} instructions) as on {cost.cheap} ({cost.least:,})"
            for cost in found
        ]
        if lines:
            self.console.print()
        for line in lines[:_SHOWN_FAILURES]:
            self.console.print(line)
        if len(lines) > _SHOWN_FAILURES:
            self.console.print(f"  ... and {len(lines) - _SHOWN_FAILURES} more")

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


def _count(one: Verification, outcome: Outcome) -> int:
    return sum(result.outcome is outcome for result in one.programs)


def _failures(one: Verification) -> list[ProgramResult]:
    return [p for p in one.programs if p.outcome not in FINE and not p.expected]


def _loaded_on(among: Iterable[Verification], arch: str, bad: ProgramResult) -> Iterator[str]:
    """Yield the kernels of an architecture on which the program of `bad` loaded."""
    for one in among:
        for result in one.programs if one.arch == arch else ():
            same = (result.object, result.program) == (bad.object, bad.program)
            if same and result.outcome is Outcome.PASSED:
                yield one.kernel


def _keys(verifications: Iterable[Verification]) -> list[tuple[str, str]]:
    """Return the object and name of each program, once, the programs of an object together."""
    found = dict.fromkeys((p.object, p.program) for one in verifications for p in one.programs)
    objects = list(dict.fromkeys(object for object, _ in found))
    return sorted(found, key=lambda key: objects.index(key[0]))


def _all_loaded(row: Sequence[ProgramResult | None]) -> bool:
    return all(r is not None and r.outcome is Outcome.PASSED and not r.expected for r in row)

"""The console of `invoke verify`: progress while it runs, then tables, failures, comparisons.

What it prints fits on a screen, also for hundreds of objects: then failures are grouped by their
reasons, and what loaded is only counted.
"""

import shlex
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Self

from rich.text import Text

from bpfmatrix.cli.console import LiveConsole
from bpfmatrix.cli.verify_rows import ProgramRow, label, make_rows
from bpfmatrix.cli.verify_tables import (
    matrix_tables,
    shown_bytes,
    shown_release,
    statistics_table,
)
from bpfmatrix.config.project import Project
from bpfmatrix.host.text import counted
from bpfmatrix.host.versions import neighbour
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, RefusedObject, Verification
from bpfmatrix.verify.columns import column
from bpfmatrix.verify.compare import Change, Cost
from bpfmatrix.verify.grouping import ReasonGroup, grouped
from bpfmatrix.verify.selection import Result, Selection, SortKey

__all__ = ["VerifyConsole"]

_SHOWN_FAILURES = 10
_SHOWN_TAIL_LINES = 14
# A table of more programs leaves out those that loaded on every kernel.
_WHOLE_TABLE = 60
# If still more rows than this are left, there is no table, but the failures grouped by reason.
_LONGEST_TABLE = 40
# Of so many programs, this many failures are explained one by one; more are grouped by reason.
_EXPLAINED_OF_MANY = 3
_SHOWN_GROUPS = 8
_SHOWN_NAMES = 3
_SHOWN_COSTLIEST = 5
_SHOWN_FILES = 10
# Where there is no terminal, progress is told in a line at most this often, in seconds.
_TOLD_EVERY = 10.0
_NOTHING = Selection()


class VerifyConsole(LiveConsole):
    """The console of a verification on one or several kernels."""

    def __init__(
        self, project: Project, kernels: Sequence[str], stderr: bool = False, raw: bool = False
    ) -> None:
        super().__init__(kernels, stderr=stderr, raw=raw)
        self._project = project
        self._programs: int | None = None
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
        self._failed[kernel] = self._failed.get(kernel, 0) + _is_failure(result)
        whole = self._programs
        text = counted(count, "program") if not whole else f"{count} of {counted(whole, 'program')}"
        failed = f", {self._failed[kernel]} failed" if self._failed[kernel] else ""
        self.doing(kernel, "load", f"{text}{failed}, {result.program}")

    def finished(self, run: KernelRun | Verification) -> None:
        """See Observer."""
        assert isinstance(run, Verification)
        self.done(run.kernel)
        if self.several:
            self._outcome(run)

    def show(
        self,
        verifications: Sequence[Verification],
        statistics: bool = False,
        selection: Selection = _NOTHING,
    ) -> None:
        """Print the tables, and what did not load: what is selected, or else what matters."""
        if self.several:
            self._matrix(verifications, selection)
        for one in verifications:
            if one.programs and (statistics or not self.several):
                self._statistics(one, selection, statistics)
        if not self.several:
            self.console.print()
            self._outcome(verifications[0])
        elif self._counts:
            total = time.monotonic() - self._began
            self.console.print(f"side by side {total:.1f} s")
        self._refused(verifications[0].refused if verifications else ())
        self._explain_failures(verifications, selection)

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
            "not run": sum(p.code is Code.NOT_RUN for p in one.programs),
        }
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        what = ", ".join(parts) if one.programs else one.reason.splitlines()[0]
        head = Text.assemble((f"{shown_release(one):<10}", "bold"), "  ", (str(one.outcome), style))
        seconds = f"  {one.seconds:.1f} s" if one.seconds else ""
        self.console.print(Text.assemble(head, f"  {what}{seconds}"))
        self.warnings(one)
        if one.outcome not in FINE:
            self.github.annotate(f"{shown_release(one)} {one.outcome}: {one.reason}")

    def _matrix(self, verifications: Sequence[Verification], selection: Selection) -> None:
        """Print programs by kernels; a large table leaves out what loaded on every kernel."""
        rows = make_rows(verifications)
        shown = selection.of(rows, lambda row: _results(verifications, row))
        rest = ""
        if not selection and len(rows) > _WHOLE_TABLE:
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

    def _statistics(self, one: Verification, selection: Selection, whole: bool) -> None:
        """Print the statistics of a kernel; of many programs, only those that cost most."""
        rows = make_rows([one])
        title = ""
        if not selection and not whole and len(rows) > _WHOLE_TABLE:
            selection = Selection(order=(SortKey(column("insns"), True),), top=_SHOWN_COSTLIEST)
            title = "the programs that cost the verifier most (all of them: --statistics)"
        shown = selection.of(rows, lambda row: _results([one], row))
        self.console.print()
        if self.several:
            self.console.print(Text(shown_release(one), "bold"))
        if title:
            self.console.print(title)
        self.console.print(statistics_table(shown, self.mark))
        if len(shown) < len(rows) and not title:
            self.console.print(f"{len(shown)} of {counted(len(rows), 'program')}", style="dim")
        memory = [m.memory_bytes for m in one.maps if m.memory_bytes is not None]
        if memory and len(shown) == len(rows):
            text = f"{counted(len(one.maps), 'map')}, {shown_bytes(sum(memory))} of memory"
            self.console.print(text)

    def _refused(self, refused: Sequence[RefusedObject]) -> None:
        """Print which files were given to no loader, each with its reason."""
        if not refused:
            return
        self.console.print()
        files = counted(len(refused), "file")
        self.console.print(Text(f"{files} can't be loaded", "yellow"))
        by_reason: dict[str, list[str]] = {}
        for one in refused:
            by_reason.setdefault(one.reason, []).append(one.object)
        for reason, names in by_reason.items():
            if len(refused) <= _SHOWN_FILES or len(names) == 1:
                for name in names:
                    self.console.print(Text(f"  {name}: {reason}"))
            else:
                self.console.print(Text(f"  {len(names)} files: {reason}"))
                named = _some([PurePath(name).name for name in names], _SHOWN_NAMES)
                self._folded(f"    {named}", style="dim")

    def _explain_failures(
        self, verifications: Sequence[Verification], selection: Selection
    ) -> None:
        """Print why kernels and programs failed; equal failures on several kernels, once."""
        shown = self.console.print
        alike: dict[tuple[str, ...], list[Result]] = {}
        rows = selection.of(make_rows(verifications), lambda row: _results(verifications, row))
        chosen = {
            (one.kernel, _identity(result))
            for row in rows
            for one, result in _results(verifications, row)
            if selection.shows((one, result))
        }
        several_loaders = len({p.loader for one in verifications for p in one.programs}) > 1
        for one in verifications:
            bad = _failures(one)
            ended = one.outcome not in (*FINE, Outcome.INTERRUPTED)
            if ended and (not bad or one.outcome is not Outcome.FAILED):
                head = Text.assemble((shown_release(one), "bold"), "  ", (str(one.outcome), "red"))
                shown()
                shown(Text.assemble(head, f": {one.reason}"))
                if one.console:
                    shown(f"  console            {one.console}")
            for result in bad:
                if (one.kernel, _identity(result)) not in chosen:
                    continue
                loader = result.loader if several_loaders else ""
                name = label(result.program, result.preset, loader)
                key = (result.object, name, str(result.code), result.reason)
                alike.setdefault(key, []).append((one, result))
        many = max((len(one.programs) for one in verifications), default=0) > _WHOLE_TABLE
        limit = _EXPLAINED_OF_MANY if many else _SHOWN_FAILURES
        if len(alike) > limit and not selection:
            self._group(verifications, [pair for failed in alike.values() for pair in failed])
            return
        for (_, name, *_), failed in list(alike.items())[:_SHOWN_FAILURES]:
            self._explain_program(name, failed, verifications)
        if len(alike) > _SHOWN_FAILURES:
            shown(f"\n... and {len(alike) - _SHOWN_FAILURES} more failures")

    def _group(self, verifications: Sequence[Verification], failures: Sequence[Result]) -> None:
        """Print how many programs failed for which reasons, some of them, and where the rest is."""
        shown = self.console.print
        groups = grouped(failures)
        programs = {(p.object, p.program) for _, p in failures}
        shown()
        head = f"{counted(len(programs), 'program')} did not load, for "
        shown(Text(head + counted(len(groups), "reason"), "bold"))
        for group in groups[:_SHOWN_GROUPS]:
            self._show_group(group)
        if left_out := groups[_SHOWN_GROUPS:]:
            more = {name for group in left_out for name in group.programs}
            reasons = counted(len(left_out), "more reason")
            shown(f"  ... and {counted(len(more), 'program')} for {reasons}")
        kernels = [one for one in verifications if _failures(one)]
        paths = [
            self._project.relative(files.verification_path(self._project, one.kernel))
            for one in kernels
        ]
        chosen = ["--filter", f"code=={groups[0].code}"]
        words = shlex.join(["--replay", paths[0], *chosen])
        shown(f"all of them          {_some(paths, _SHOWN_NAMES)}")
        shown(f"those of one reason  invoke verify {words}")

    def _show_group(self, group: ReasonGroup) -> None:
        counts: dict[str, int] = {}
        for one, _ in group.failures:
            counts[shown_release(one)] = counts.get(shown_release(one), 0) + 1
        where = ""
        if self.several:
            words = [f"{count} on {release}" for release, count in counts.items()]
            where = f"  {_some(words, 6)}"
        count = counted(len(group.programs), "program")
        head = Text.assemble((f"  {count}", "bold"), "  ", (group.code, "red"), where)
        self.console.print(head)
        if group.reason:
            self._folded(f"    {group.reason}")
        by_object: dict[str, list[str]] = {}
        for object, program in group.programs[:_SHOWN_NAMES]:
            by_object.setdefault(PurePath(object).name, []).append(program)
        names = "; ".join(f"{object}: {', '.join(some)}" for object, some in by_object.items())
        more = len(group.programs) - _SHOWN_NAMES
        self._folded(f"    {names}" + (f"; and {more} more" if more > 0 else ""), style="dim")

    def _folded(self, text: str, style: str = "") -> None:
        """Print a line, and no more of it than the width of the terminal."""
        line = Text(text, style)
        if self.console.is_terminal:
            line.truncate(self.console.width, overflow="ellipsis")
        self.console.print(line)

    def _explain_program(
        self,
        name: str,
        failed: Sequence[Result],
        among: Sequence[Verification],
    ) -> None:
        shown = self.console.print
        # The kernel with the longest log: newer kernels print more.
        one, result = max(failed, key=lambda pair: len(pair[1].verifier_tail))
        who = ", ".join(shown_release(other) for other, _ in failed)
        what = Text.assemble((who, "bold"), "  ", (name, "bold"))
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
    return [result for result in one.programs if _is_failure(result)]


def _is_failure(result: ProgramResult) -> bool:
    """Whether a program failed, and was not expected to. One that was not run did not fail."""
    fine = result.outcome in FINE or result.code is Code.NOT_RUN
    return not fine and not result.expected


def _results(verifications: Sequence[Verification], row: ProgramRow) -> list[Result]:
    """Return the results that a row of a table is about, each with its kernel."""
    pairs = zip(verifications, row.cells, strict=True)
    return [(one, result) for one, result in pairs if result is not None]


def _some(names: Sequence[str], count: int) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f", and {more} more" if more > 0 else "")


def _loaded_on(among: Iterable[Verification], arch: str, bad: ProgramResult) -> Iterator[str]:
    """Yield the kernels of an architecture on which the program of `bad` loaded."""
    for one in among:
        for result in one.programs if one.arch == arch else ():
            same = _identity(result) == _identity(bad)
            if same and result.outcome is Outcome.PASSED:
                yield one.kernel


def _identity(result: ProgramResult) -> tuple[str, ...]:
    return result.object, result.program, result.preset, result.loader

"""Why programs did not load, and why files could not be loaded: what `invoke verify` says of it.

A few failures are explained one by one, with the lines of source that the verifier rejects. Many
are grouped by their reasons, so that they fit on a screen.
"""

import dataclasses
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rich.text import Text

from bpfmatrix.cli.console import SafeConsole
from bpfmatrix.cli.github import GithubLog
from bpfmatrix.cli.verify_rows import ProgramRow, make_rows, results_of
from bpfmatrix.cli.verify_told import FailedTests, FailureOn, Told, failure_on, tests_named
from bpfmatrix.config.project import Project
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import counted
from bpfmatrix.host.versions import neighbour
from bpfmatrix.report import next_commands
from bpfmatrix.report.again import PLAIN, Again
from bpfmatrix.report.next_commands import FailedProgram, FailedTest
from bpfmatrix.results import files
from bpfmatrix.results.kernel_label import label_of
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, RefusedObject, Verification
from bpfmatrix.verify.grouping import ReasonGroup, grouped
from bpfmatrix.verify.plan import DEFAULT_LOADER
from bpfmatrix.verify.selection import Result, Selection

__all__ = ["WHOLE_TABLE", "FailurePrinter", "failures_of", "is_failure"]

WHOLE_TABLE = 60
"""Of more programs, a table does not have all, and few failures are explained one by one."""
_SHOWN_FAILURES = 10
_SHOWN_TAIL_LINES = 14
# Of so many programs, this many failures are explained one by one; more are grouped by reason.
_EXPLAINED_OF_MANY = 3
_SHOWN_GROUPS = 8
_SHOWN_NAMES = 3
_SHOWN_FILES = 10
_NO_TESTS: FailedTests = {}


@dataclass(frozen=True)
class _Alike:
    """Failures of one program on several kernels that are explained once."""

    row: ProgramRow
    failures: list[Result]


class FailurePrinter:
    """Prints on the console of a verification."""

    def __init__(
        self,
        project: Project,
        console: SafeConsole,
        kernels: Sequence[str],
        again: Again = PLAIN,
        tests: FailedTests = _NO_TESTS,
    ) -> None:
        """`kernels` are the ids of those that were verified, `again` is how that was started, and
        `tests` are those that failed for a program that did not load.
        """
        self._project = project
        self._console = console
        self._kernels = kernels
        self._github = GithubLog(console)
        self._again = again
        self._tests = tests
        self._explained: set[FailureOn] = set()
        self._annotated: set[FailureOn] = set()

    @property
    def told(self) -> Told:
        """The failures that this has printed."""
        return Told(frozenset(self._explained), frozenset(self._annotated))

    def refused(self, refused: Sequence[RefusedObject]) -> None:
        """Print which files were given to no loader, each with its reason."""
        if not refused:
            return
        self._console.print()
        files = counted(len(refused), "file")
        self._console.print(Text(f"{files} can't be loaded", "yellow"))
        by_reason: dict[str, list[str]] = {}
        for one in refused:
            by_reason.setdefault(one.reason, []).append(one.object)
        for reason, names in by_reason.items():
            if len(refused) <= _SHOWN_FILES or len(names) == 1:
                for name in names:
                    self._console.print(Text(f"  {name}: {reason}"))
            else:
                self._console.print(Text(f"  {len(names)} files: {reason}"))
                named = _some([PurePath(name).name for name in names], _SHOWN_NAMES)
                self._folded(f"    {named}", style="dim")

    def failures(self, verifications: Sequence[Verification], selection: Selection) -> None:
        """Print why kernels and programs failed; equal failures on several kernels, once."""
        shown = self._console.print
        for one in verifications:
            ended = one.outcome not in (*FINE, Outcome.INTERRUPTED)
            if ended and (one.outcome is not Outcome.FAILED or not failures_of(one)):
                head = Text.assemble(
                    (label_of(one, self._kernels), "bold"), "  ", (str(one.outcome), "red")
                )
                shown()
                shown(Text.assemble(head, f": {one.reason}"))
                self._github.annotate(f"{label_of(one, self._kernels)} {one.outcome}: {one.reason}")
                for dump in one.dumps:
                    shown(f"  memory             {dump}")
                    shown(f"  open it            {command('debug')} --core {shlex.quote(dump)}")
                if one.console:
                    shown(f"  console            {one.console}")
        alike: dict[tuple[str, ...], _Alike] = {}
        rows = selection.of(
            make_rows(verifications, selection), lambda row: results_of(verifications, row)
        )
        for row in rows:
            for one, result in results_of(verifications, row):
                if is_failure(result) and selection.shows((one, result)):
                    key = (row.object, row.label, str(result.code), result.reason)
                    alike.setdefault(key, _Alike(row, [])).failures.append((one, result))
        for each in list(alike.values())[:_SHOWN_FAILURES]:
            self._annotate(each)
        many = max((len(one.programs) for one in verifications), default=0) > WHOLE_TABLE
        limit = _EXPLAINED_OF_MANY if many else _SHOWN_FAILURES
        if len(alike) > limit and not selection:
            self._group(verifications, [pair for each in alike.values() for pair in each.failures])
            return
        for each in list(alike.values())[:_SHOWN_FAILURES]:
            self._explain_program(each, verifications)
        if len(alike) > _SHOWN_FAILURES:
            shown(f"\n... and {len(alike) - _SHOWN_FAILURES} more failures")

    def _annotate(self, alike: "_Alike") -> None:
        """Have GitHub show a failure at the line of C that was rejected, once for all kernels."""
        result = next((p for _, p in alike.failures if p.source), alike.failures[0][1])
        who = ", ".join(label_of(one, self._kernels) for one, _ in alike.failures)
        text = f"{who}: {alike.row.label} of {result.object}: {result.reason or result.outcome}"
        if tests := self._tests_of(alike):
            text += f" (failed tests: {tests_named(tests)})"
        self._annotated.update(failure_on(*pair) for pair in alike.failures)
        self._github.annotate(text, result.source, self._project.root)

    def _tests_of(self, alike: "_Alike") -> list[FailedTest]:
        """Return the tests that failed for the program."""
        return [test for pair in alike.failures for test in self._tests.get(failure_on(*pair), ())]

    def _group(self, verifications: Sequence[Verification], failures: Sequence[Result]) -> None:
        """Print how many programs failed for which reasons, some of them, and where the rest is."""
        shown = self._console.print
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
        kernels = [one for one in verifications if failures_of(one)]
        paths = [
            self._project.relative(files.verification_path(self._project, one.kernel))
            for one in kernels
        ]
        chosen = ["--filter", f"code=={groups[0].code}"]
        words = shlex.join(["--replay", paths[0], *chosen])
        shown(f"all of them          {_some(paths, _SHOWN_NAMES)}")
        shown(f"those of one reason  {command(f'verify {words}')}")

    def _show_group(self, group: ReasonGroup) -> None:
        on: dict[str, set[tuple[str, str]]] = {}
        for one, p in group.failures:
            on.setdefault(label_of(one, self._kernels), set()).add((p.object, p.program))
        where = ""
        if len(self._kernels) > 1:
            words = [f"{len(programs)} on {release}" for release, programs in on.items()]
            where = f"  {_some(words, 6)}"
        count = counted(len(group.programs), "program")
        head = Text.assemble((f"  {count}", "bold"), "  ", (group.code, "red"), where)
        self._console.print(head)
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
        if self._console.is_terminal:
            line.truncate(self._console.width, overflow="ellipsis")
        self._console.print(line)

    def _explain_program(
        self,
        alike: "_Alike",
        among: Sequence[Verification],
    ) -> None:
        failed, row = alike.failures, alike.row
        shown = self._console.print
        # The kernel with the longest log: newer kernels print more.
        one, result = max(failed, key=lambda pair: len(pair[1].verifier_tail))
        who = ", ".join(label_of(other, self._kernels) for other, _ in failed)
        what = Text.assemble((who, "bold"), "  ", (row.label, "bold"))
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
        tests = self._tests_of(alike)
        if tests:
            shown(f"  failed tests       {tests_named(tests)}")
        self._explained.update(failure_on(*pair) for pair in failed)
        self._suggest(alike, (one, result), among, tests)

    def _suggest(
        self,
        alike: "_Alike",
        shown: Result,
        among: Sequence[Verification],
        tests: Sequence[FailedTest],
    ) -> None:
        """Print what to type next about a program, but not the command that was just typed."""
        one, result = shown
        kernels = list(dict.fromkeys(other.kernel for other, _ in alike.failures))
        again = self._again
        if not all(map(self._project.config.has, kernels)):
            again = dataclasses.replace(again, available=True)
        program = FailedProgram(
            *(result.object, result.program, kernels, str(result.code or "")),
            self._loaded_with(alike.row, result),
        )
        good = neighbour(one.kernel, _loaded_on(among, one, result))
        test = tests[0] if tests else None
        found = next_commands.of_program(
            *(again, program, one.kernel, good),
            has_log=bool(result.log),
            is_alone=len(self._kernels) == 1,
            test=test,
        )
        for what, words in found.items():
            if what != next_commands.LOAD_AGAIN:
                self._console.print(f"  {what:<17}  {words}")

    def _loaded_with(self, row: ProgramRow, result: ProgramResult) -> list[str]:
        """Return the options for a command that is to load the program as it was loaded."""
        usual = self._project.config.verify.loader or DEFAULT_LOADER
        is_usual = result.loader in ("", usual)
        loader = ["--loader", result.loader] if row.loader or not is_usual else []
        return [*loader, *(["--preset", row.preset] if row.preset else [])]


def failures_of(one: Verification) -> list[ProgramResult]:
    return [result for result in one.programs if is_failure(result)]


def is_failure(result: ProgramResult) -> bool:
    """Whether a program failed, and was not expected to. One that was not run did not fail."""
    fine = result.outcome in FINE or result.code is Code.NOT_RUN
    return not fine and not result.expected


def _some(names: Sequence[str], count: int) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - count
    return ", ".join(names[:count]) + (f", and {more} more" if more > 0 else "")


def _loaded_on(
    among: Iterable[Verification], on: Verification, bad: ProgramResult
) -> Iterator[str]:
    """Yield the kernels, of the architecture and profile of `on`, on which a program loaded."""
    for one in among:
        for result in one.programs if next_commands.is_alike(one, on) else ():
            same = _identity(result) == _identity(bad)
            if same and result.outcome is Outcome.PASSED:
                yield one.kernel


def _identity(result: ProgramResult) -> tuple[str, ...]:
    return result.object, result.program, result.preset, result.loader

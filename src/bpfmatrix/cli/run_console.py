"""The console of a run of tests, of `verify`, or of both side by side: one table of all kernels."""

import contextlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self

from rich.text import Text

from bpfmatrix.cli.console import LiveConsole
from bpfmatrix.cli.run_choice import RunChoice
from bpfmatrix.config.project import Project
from bpfmatrix.report.again import PLAIN, Again
from bpfmatrix.report.kernel_table import GAP, kernel_table
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import GuestRun, Outcome
from bpfmatrix.results.verification import Verification

if TYPE_CHECKING:
    from bpfmatrix.cli.suite_output import SuiteConsole
    from bpfmatrix.cli.verify_output import VerifyConsole

__all__ = ["RunConsole"]


class RunConsole:
    """The consoles of the parts of a run, on one terminal."""

    tests: "SuiteConsole | None" = None
    """The observer of the tests, if they run."""
    programs: "VerifyConsole | None" = None
    """The observer of `verify`, if it runs."""

    def __init__(
        self,
        project: Project,
        kernels: Sequence[str],
        choice: RunChoice,
        again: Again = PLAIN,
        raw: bool = False,
    ) -> None:
        self._asked = choice.is_asked
        parts, consoles = choice.parts, list[LiveConsole]()
        # A run does not pay for the imports of a part that does not run.
        if "tests" in parts:
            from bpfmatrix.cli.suite_output import SuiteConsole

            self.tests = SuiteConsole(project, kernels, again, raw, explains_later=True)
            consoles.append(self.tests)
        if "verify" in parts:
            from bpfmatrix.cli.verify_output import VerifyConsole

            self.programs = VerifyConsole(project, kernels, again, raw=raw)
            consoles.append(self.programs)
        self.first: LiveConsole
        """The one to which the terminal belongs."""
        self.first, *others = consoles
        for console in others:
            console.follow(self.first)
        self._consoles = consoles
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Begin to show progress."""
        for console in self._consoles:
            self._stack.enter_context(console)
        return self

    def __exit__(self, *_: object) -> None:
        """End the live progress."""
        self._stack.close()

    def stop(self) -> None:
        """Stop showing progress, before the results."""
        self.first.stop()

    def end(self) -> None:
        """Print the summaries that wait for `show`, as the run was ended early."""
        for console in reversed(self._consoles):
            console.print_waiting()

    def abort(self, *, interrupted: bool = False) -> None:
        """Print what is known of the kernels that have ended, as the run was ended early.

        After Ctrl-C, the kernels that had not begun are named.
        """
        self.end()
        ended = set().union(*(each.ended for each in self._consoles))
        not_begun = [kernel for kernel in self.first.kernels if kernel not in ended]
        if interrupted and ended and not_begun:
            self.first.console.print(f"interrupted, not run: {', '.join(not_begun)}")
        if self.tests and not self.first.several:
            self.tests.explain_ended()

    def show(
        self,
        runs: Sequence[KernelRun],
        verifications: Sequence[Verification],
        seconds: float = 0.0,
    ) -> None:
        """Print the table, if there are several kernels, and why kernels did not pass."""
        self.end()
        if self.first.several:
            self._table(runs, verifications, seconds)
        told = None
        if self.programs and verifications:
            if runs or self.first.several:
                tests = self.tests.failed_tests(runs) if self.tests else {}
                told = self.programs.explain(verifications, tests=tests)
            else:
                self.programs.show(verifications)
        if self.tests:
            # What kept a kernel from being prepared is the same for both.
            unprepared = {(one.kernel, one.reason) for one in verifications if not one.version}
            others = [run for run in runs if (run.kernel, run.reason) not in unprepared]
            self.tests.explain(others, *([told] if told else []))

    def _table(
        self, runs: Sequence[KernelRun], verifications: Sequence[Verification], seconds: float
    ) -> None:
        columns: dict[str, list[GuestRun]] = {}
        for one in (*verifications, *runs):
            columns.setdefault(one.kernel, []).append(one)
        results = list(columns.values())
        # The result with a version is that of a kernel that was booted.
        booted = [next((one for one in each if one.version), each[0]) for each in results]
        facts: dict[str, list[Text]] = {}
        if self.programs and verifications:
            facts["verify"] = [self.programs.cell(one) for one in verifications]
        if self.tests and runs:
            facts["tests"] = [self.tests.cell(run) for run in runs]
        if any(skipped := [_skipped(each) for each in results]):
            facts["skipped"] = [Text(count) for count in skipped]
        facts["time"] = [Text(_time(each)) for each in results]
        labels = [self.first.label(one) for one in booted]
        table = kernel_table(labels, facts, self.first.console.width)
        shown = self.first.console.print
        shown()
        shown(table)
        if not (self.tests and runs) and not self._asked:
            shown(f"{'tests':<{max(map(len, facts)) + GAP}}(none declared)")
        shown(f"side by side {seconds:.1f} s")


def _skipped(results: Iterable[GuestRun]) -> str:
    outcomes: list[Outcome] = []
    for one in results:
        if isinstance(one, KernelRun):
            outcomes += (test.outcome for test in one.tests)
        elif isinstance(one, Verification):
            outcomes += (program.outcome for program in one.programs)
    return str(outcomes.count(Outcome.SKIPPED) or "")


def _time(results: Sequence[GuestRun]) -> str:
    if all(one.cached for one in results):
        return "cached"
    return f"{sum(one.seconds for one in results if not one.cached):.1f} s"

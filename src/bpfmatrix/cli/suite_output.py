"""What a run prints while it goes on: tests, summaries, the matrix, explanations."""

import contextlib
import dataclasses
import shlex
from collections.abc import Sequence

from rich.text import Text

from bpfmatrix.cli.console import STYLES, LiveConsole
from bpfmatrix.cli.verify_told import NOTHING, FailedTests, Told, failed_tests
from bpfmatrix.config.project import Project
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import counted
from bpfmatrix.host.versions import neighbour
from bpfmatrix.kernels.console_log import last_lines, telling_lines
from bpfmatrix.report import next_commands
from bpfmatrix.report.again import PLAIN, Again
from bpfmatrix.report.next_commands import FailedTest
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.names import Labels
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult, Verification

__all__ = ["SuiteConsole"]

_SHOWN_OUTPUT_LINES = 60
_SHOWN_FAILURES = 10
_SHOWN_LOGS = 10


class SuiteConsole(LiveConsole):
    """The console of a run of the tests on one or several kernels."""

    def __init__(
        self,
        project: Project,
        kernels: Sequence[str],
        again: Again = PLAIN,
        raw: bool = False,
        *,
        explains_later: bool = False,
    ) -> None:
        """`again` is how the run was started. With `explains_later`, why a kernel did not pass is
        only printed by `explain`, also if there is one kernel.
        """
        super().__init__(kernels, raw=raw)
        self._project = project
        self._again = again
        self._explains_later = explains_later
        self._runs: list[KernelRun] = []
        self._waiting: list[KernelRun] = []
        self._labels: dict[str, Labels] = {}
        self._passed: dict[str, int] = {}

    def executables(self, kernel: str, names: Sequence[str]) -> None:
        """See Observer."""
        self._labels[kernel] = Labels(names)

    def _labels_of(self, run: KernelRun) -> Labels:
        """Return how tests are called; the executables of an earlier run are not known."""
        return self._labels.get(run.kernel) or Labels.of_results(run.tests)

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer. With several kernels, only the live line says what has passed."""
        if self.several and name == "test" and (passed := self._passed.get(kernel)):
            text = f"{counted(passed, 'test')} passed, {text}"
        super().doing(kernel, name, text, fraction)

    def still_running(self, kernel: str, name: str, seconds: float) -> None:
        """See Observer."""
        prefix = f"{kernel:<{self.width}}" if self.several else ""
        self.line(Text(f"{prefix}    {name}"), f"still running, {seconds:.0f} s")

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        assert isinstance(result, TestResult)
        unexpected = result.outcome is Outcome.PASSED and bool(result.expected)
        calm = result.outcome in (Outcome.PASSED, Outcome.SKIPPED) or bool(result.expected)
        if self.several and calm and not unexpected:
            if result.outcome is Outcome.PASSED:
                self._passed[kernel] = self._passed.get(kernel, 0) + 1
                self.doing(kernel, "test", result.name)
            return
        prefix = f"{kernel:<{self.width}}" if self.several else ""
        style = "yellow" if result.expected else STYLES.get(result.outcome, "red")
        name = self._labels.get(kernel, Labels(())).of(result)
        text = Text.assemble(f"{prefix}  ", (self.mark(result.outcome), style), f" {name}")
        if unexpected:
            self.line(text, f"passed unexpectedly: {result.expected}", style)
        elif result.expected:
            self.line(text, f"{result.outcome} as expected: {result.expected}", style)
        elif result.outcome is Outcome.PASSED:
            self.line(text, f"{result.seconds:.2f} s")
        else:
            outcome = str(result.outcome)
            self.line(text, f"{outcome}: {result.reason}" if result.reason else outcome, style)

    def finished(self, run: KernelRun | Verification) -> None:
        """See Observer."""
        assert isinstance(run, KernelRun)
        self.done(run.kernel)
        self.ended.add(run.kernel)
        self._runs.append(run)
        if self.shares_terminal and not self.several:
            self._waiting.append(run)
            return
        self._finish(run)
        if not (self.several or self._explains_later):
            self._explain(run)

    def print_waiting(self) -> None:
        """See LiveConsole."""
        for run in self._waiting:
            self._finish(run)
        self._waiting.clear()

    def _finish(self, run: KernelRun) -> None:
        if self.github.active:
            if self.several:
                self._list_tests(run)
            self.github.end_group()
        self._summary(run)
        self.warnings(run)
        self._leftovers(run)

    def _list_tests(self, run: KernelRun) -> None:
        self.github.begin_group(self.label(run))
        for test in run.tests:
            reason = f"  {test.reason}" if test.reason else ""
            name = self._labels_of(run).of(test)
            self.console.print(f"  {test.outcome:<8} {name}{reason}")

    def failed_tests(self, runs: Sequence[KernelRun]) -> FailedTests:
        """Return the tests that failed for programs that did not load."""
        return failed_tests(runs, self._failed_test)

    def explain(self, runs: Sequence[KernelRun], told: Told = NOTHING) -> None:
        """Print why kernels did not pass: first the programs that did not load, each once.

        Those that are no reason, such as in a test with a timeout, come last. `told` is what
        `verify` has explained of them.
        """
        self._show_rejections(runs, told, are_reasons=True)
        for run in runs:
            self._explain(run)
        self._show_rejections(runs, told, are_reasons=False)

    def _show_rejections(self, runs: Sequence[KernelRun], told: Told, *, are_reasons: bool) -> None:
        if any(run.rejections for run in runs):
            from bpfmatrix.cli.rejection_output import RejectionPrinter

            printer = RejectionPrinter(self._project, self.console, self.label, self._failed_test)
            printer.show(runs, told, are_reasons=are_reasons)

    def explain_ended(self) -> None:
        """Print why the kernels did not pass that have ended so far."""
        self.explain(self._runs)

    def cell(self, run: KernelRun) -> Text:
        """Return what the table of all kernels says of the tests on one of them."""
        return self._cell(run.outcome, run.count(Outcome.PASSED), len(run.failures))

    def _summary(self, run: KernelRun) -> None:
        passed = run.count(Outcome.PASSED)
        counts = [counted(passed, "test")]
        if run.failures:
            counts[0] += " passed"
            counts.append(f"{len(run.failures)} failed")
        if run.expected_failures:
            counts.append(f"{len(run.expected_failures)} failed as expected")
        if run.unexpected_passes:
            counts.append(f"{len(run.unexpected_passes)} passed unexpectedly")
        if skipped := run.count(Outcome.SKIPPED):
            counts.append(f"{skipped} skipped")
        text = self._head(run, "tests")
        if run.cached:
            text.append(f" (cached, {run.age} ago)")
        if run.tests:
            text.append(f"  {', '.join(counts)}")
        if run.seconds and not run.cached:
            text.append(f"  {run.seconds:.1f} s")
        self.console.print(text)
        if run.outcome is not Outcome.PASSED:
            self.github.annotate(f"{self.label(run)} {run.outcome}: {run.reason}")

    def _leftovers(self, run: KernelRun) -> None:
        prefix = self._prefix(run.kernel) or "  "
        for left in () if run.cached else run.leftovers:
            self.console.print(Text(f"{prefix}left behind by {left.binary}: {left.what}", "dim"))

    def _explain(self, run: KernelRun) -> None:
        """Print why a kernel did not pass: what failed, the lines that explain it, what to do."""
        if run.outcome is Outcome.PASSED or _is_explained(run):
            return
        who, shown = self.label(run), self.console.print
        shown()
        shown(Text.assemble((who, "bold"), "  ", (run.outcome, "red"), f": {run.reason}"))
        self._explain_tests(run)
        for line in self._console_log(run):
            shown(f"      {line}", style="dim")
        for line in run.trace:
            shown(f"        {line}")
        for hint in run.hints:
            shown(f"  hint          {hint}")
        for log in _telling_logs(run):
            shown(f"  full output   {log}")
        for dump in run.dumps:
            shown(f"  memory        {dump}")
            shown(f"  open it       {command('debug')} --core {shlex.quote(dump)}")
        for core in run.cores:
            shown(f"  core file     {core}")
        if run.console:
            shown(f"  console       {run.console}")
        if run.failures:
            self._suggest(run)

    def _explain_tests(self, run: KernelRun) -> None:
        shown = self.console.print
        for test in run.failures[:_SHOWN_FAILURES]:
            mark = self.mark(test.outcome)
            name = self._labels_of(run).of(test)
            shown(Text.assemble("  ", (mark, "red"), " ", (name, "bold")))
            if rejections := run.rejections_of(test):  # printed above, once for all kernels
                for one in rejections:
                    shown(Text(f"      {one.summary}"))
                if not _says_more(test):
                    continue
            if test.reason not in test.output:
                shown(Text(f"      {test.reason}"))
            from bpfmatrix.rejections.printed import without_logs

            for line in last_lines(without_logs(test.output), _SHOWN_OUTPUT_LINES):
                shown(f"      {line}")
        if len(run.failures) > _SHOWN_FAILURES:
            shown(f"  ... and {len(run.failures) - _SHOWN_FAILURES} more")

    def _suggest(self, run: KernelRun) -> None:
        """Print what to type next to look into the first failure that is not explained yet."""
        shown = self.console.print
        unexplained = (one for one in run.failures if not run.rejections_of(one) or _says_more(one))
        failed = next(unexplained, None)
        test = self._failed_test(run, failed or run.failures[0])
        commands = next_commands.of_test(test, is_alone=not self.several)
        for what, words in commands.items():
            shown(f"  {what:<12}  {words}")
            if failed is None:  # the other commands are printed with the line of C
                return

    def _failed_test(self, run: KernelRun, test: TestResult) -> FailedTest:
        again = self._again
        if not self._project.config.has(run.kernel):
            again = dataclasses.replace(again, available=True)
        pattern, good = self._labels_of(run).selecting(test), self._passed_elsewhere(run, test)
        return FailedTest(again, run.kernel, pattern, good, self._labels_of(run).of(test))

    def _passed_elsewhere(self, bad: KernelRun, test: TestResult) -> str:
        """Return the nearest kernel on which a test and its subtests passed; nothing if none."""
        alike = (run for run in self._runs if next_commands.is_alike(run, bad))
        good = [run.kernel for run in alike if _passed(run, test)]
        return neighbour(bad.kernel, good)

    def _console_log(self, run: KernelRun) -> list[str]:
        """Return the last lines of the console since the tests began, or of all if none began."""
        if not run.console:
            return []
        with contextlib.suppress(OSError):
            text = (self._project.root / run.console).read_bytes()[run.console_bytes_before_tests :]
            lines = telling_lines(text.decode(errors="replace"))
            if not run.trace:
                return lines
            # The call trace is printed below, with files and lines.
            trace = (n for n, line in enumerate(lines, 1) if line.lower().endswith("call trace:"))
            return lines[: next(trace, len(lines))]
        return []


def _is_explained(run: KernelRun) -> bool:
    """Whether a run failed only by programs that did not load, which are printed once for all."""
    failures = run.failures
    only = run.outcome is Outcome.FAILED and bool(failures) and not run.hints
    return only and all(run.rejections_of(one) and not _says_more(one) for one in failures)


def _says_more(test: TestResult) -> bool:
    from bpfmatrix.rejections.printed import says_more

    return says_more(test.reason, test.output)


def _telling_logs(run: KernelRun) -> list[str]:
    """Return the logs of the executables that failed; all of them if none did."""
    failed = dict.fromkeys(test.binary for test in run.failures)
    found = [log for name in failed if (log := run.log_of(name))]
    return (found or list(run.logs))[:_SHOWN_LOGS]


def _passed(run: KernelRun, test: TestResult) -> bool:
    """Return whether a test passed. A test with subtests is listed only by its subtests."""
    same = [one for one in run.tests if one.binary == test.binary]
    if test.name != test.binary:  # not a whole executable
        top = test.name.split("/")[0]
        same = [one for one in same if one.name.split("/")[0] == top]
    return next_commands.has_passed([one.outcome for one in same])

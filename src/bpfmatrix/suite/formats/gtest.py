"""GoogleTest: its lines while it runs, and its XML report for what failed."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import KEPT_CHARACTERS, End, never_ran_words
from bpfmatrix.suite.formats.junit import JUnitReader, Verdict, located

__all__ = ["GTestReader"]

_PLAN = re.compile(r"\[=+\] Running (\d{1,9}) tests? from ")
_RUN = re.compile(r"\[ RUN      \] (\S+)$")
_RAN = re.compile(r"\[=+\] \d{1,9} tests? from .* ran\.")
# A test may have printed the beginning of this line. The time is left out if arguments say so.
_END = re.compile(r"\[ *(OK|FAILED|SKIPPED) *\] (\S+?)(?:, where .*?)?(?: \((\d{1,9}) ms\))?$")
_OUTCOMES = {"OK": Outcome.PASSED, "FAILED": Outcome.FAILED, "SKIPPED": Outcome.SKIPPED}
_ASSERTION = re.compile(r"\S+:\d+: (Failure|Skipped)$|(unknown file): Failure$")


class GTestReader(JUnitReader):
    """Reports what passed at once, and the others as the report has them.

    If the tests are repeated, the report has only the last time; what failed before is printed.
    """

    failure_statuses = (1,)

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._planned = 0
        self._ended = 0
        self._is_complete = False
        """Whether GoogleTest said that all tests ran; what tests print may hide their own lines."""
        self._current = ""
        self._block = Excerpt(KEPT_CHARACTERS)
        self._printed: dict[str, tuple[Outcome, float, str]] = {}
        """The tests that did not pass, by what was printed."""

    @staticmethod
    def arguments(report: str) -> tuple[str, ...]:
        """See Reader."""
        return (f"--gtest_output=xml:{report}", "--gtest_color=no")

    @property
    def running(self) -> str:
        """See Reader."""
        return self._current

    def line(self, line: str) -> None:
        """See LineReader."""
        if match := _PLAN.match(line):
            self._planned += int(match[1])
            self._is_complete = False
        elif _RAN.match(line):
            self._is_complete = True
        elif match := _RUN.match(line):
            self._current, self._block = match[1], Excerpt(KEPT_CHARACTERS)
        elif (match := _END.search(line)) and match[2] == self._current:
            self._end(_OUTCOMES[match[1]], int(match[3] or 0) / 1000)
        elif self._current:
            self._block.append(f"{line}\n")

    def _end(self, outcome: Outcome, seconds: float) -> None:
        name, self._current = self._current, ""
        self._ended += 1
        if outcome is Outcome.PASSED:
            self.report(name, outcome, seconds=seconds, output=str(self._block))
        elif name not in self._printed or outcome is Outcome.FAILED:
            self._printed[name] = (outcome, seconds, str(self._block))

    def reason(self, verdict: Verdict) -> str:
        """See JUnitReader."""
        return located((verdict.text or verdict.message).splitlines())

    def without_report(self) -> None:
        """See JUnitReader."""
        for name, (outcome, seconds, output) in self._printed.items():
            reason = _assertion(output)
            self.report(name, outcome, seconds=seconds, reason=reason, output=output)

    def beside_report(self, bad: Collection[str]) -> None:
        """See JUnitReader."""
        self._printed = {
            name: printed
            for name, printed in self._printed.items()
            if printed[0] is Outcome.FAILED and name not in bad
        }
        self.without_report()

    def unfinished(self, end: End, reason: str) -> Iterable[tuple[str, str, str]]:
        """See Reader."""
        return [(self._current, reason, str(self._block))] if self._current else []

    def never_ran(self, end: End) -> str:
        """See Reader."""
        missing = self._planned - self._ended - bool(self._current)
        if missing <= 0 or not (end.is_early or (end.is_whole and not self._is_complete)):
            return ""
        return never_ran_words((), missing, self._planned)


def _assertion(output: str) -> str:
    """Return the first assertion that a test printed, in one line."""
    lines = output.splitlines()
    starts = [number for number, line in enumerate(lines) if _ASSERTION.match(line)]
    if not starts:
        return "failed"
    return located(lines[starts[0] : starts[1] if len(starts) > 1 else None])

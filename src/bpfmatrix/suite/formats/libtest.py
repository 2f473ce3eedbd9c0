"""Rust's libtest, as `cargo test` runs it: its lines, which are its only stable form."""

import re
from collections.abc import Callable, Iterable, Sequence

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.host.text import counted
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import KEPT_CHARACTERS, End, LineReader, one_line
from bpfmatrix.suite.formats.deaths import last_words, rust_panic

__all__ = ["LibtestReader", "rust_reason"]

_PLAN = re.compile(r"running (\d{1,9}) tests?$")
_BEGIN = re.compile(r"test (\S.*?)(?: - should panic)? \.\.\. ?(.*)$")
_END = re.compile(
    r"(ok|FAILED|ignored|bench:.*)(?:, (.*)| \(time limit exceeded\))?(?: <[\d.]+s>)?$"
)
_WHOLE_WORD = re.compile(rf"(?<!\w){_END.pattern}")
_BLOCK = re.compile(r"---- (\S.*?)(?: - should panic)? (?:stdout|stderr) ----$")
_LISTED = re.compile(r"    (\S.*)$")
_TOLD = re.compile(r"(?:Error: |note: (?=test did not panic))(.*)$")
_RESULT = re.compile(r"test result: ")


class LibtestReader(LineReader):
    """Reports what passed at once, and what failed with the output that is printed at the end.

    With `--nocapture`, what a test prints is in front of its verdict, and may look like one. So the
    last one in front of the next test counts, and the list of failures at the end.
    """

    failure_statuses = (101,)

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._planned = 0
        self._ended = 0
        self._is_complete = False
        """Whether libtest said how all tests ended; what tests print may hide its other lines."""
        self._current = ""
        """The test that has begun: it is printed before it ends if tests run one by one."""
        self._verdict: re.Match[str] | None = None
        """What looks like the verdict on that test."""
        self._is_word = False
        """Whether that is a word; else the test may have printed the beginning of its line."""
        self._printed = Excerpt(KEPT_CHARACTERS)
        self._after = Excerpt(KEPT_CHARACTERS)
        """What follows the line with the verdict, which then may be none."""
        self._failed: dict[str, Excerpt] = {}
        self._passed: dict[str, Excerpt] = {}
        """The tests that seem to have passed, and have printed something."""
        self._blocks: dict[str, Excerpt] = {}
        """What is printed at the end of tests that are not known to have failed."""
        self._block: Excerpt | None = None
        self._listed: list[str] | None = None
        """The names below the last `failures:`."""

    @property
    def running(self) -> str:
        """See Reader."""
        match = _BEGIN.match(self.partial)
        if match and (self._verdict or not self._current):
            return match[1]
        return "" if self._verdict else self._current

    def line(self, line: str) -> None:
        """See LineReader."""
        if _RESULT.match(line):
            self._settle()
            self._is_complete = True
            self._report_all()
        elif self._current and not self._verdict:
            self._look_for_verdict(line)
        elif match := _PLAN.match(line):
            self._settle()
            self._planned += int(match[1])
            self._is_complete = False
        elif match := _BEGIN.match(line):
            self._settle()
            self._block, self._printed = None, Excerpt(KEPT_CHARACTERS)
            self._current = match[1]
            self._look_for_verdict(match[2])
        elif line == "failures:":
            self._settle()
            self._block, self._listed = None, []
        elif match := _BLOCK.match(line):
            self._block = self._block_of(match[1])
        elif self._block is not None:
            self._block.append(f"{line}\n")
        elif self._current:
            self._look_for_verdict(line)
        if (
            self._listed is not None
            and len(self._listed) < self._planned
            and (listed := _LISTED.match(line))
        ):
            self._listed.append(listed[1])

    def _look_for_verdict(self, line: str) -> None:
        whole, at_end = _WHOLE_WORD.search(line), _END.search(line)
        if whole or (at_end and not self._is_word):
            self._take_back()
            self._verdict, self._is_word = whole or at_end, bool(whole)
            return
        if line.strip() and not self._is_word:
            self._take_back()
        (self._after if self._verdict else self._printed).append(f"{line}\n")

    def _take_back(self) -> None:
        """Take what looked like a verdict as a line that the test printed."""
        if self._verdict:
            self._printed.append(f"{self._verdict.string}\n{self._after}")
        self._verdict, self._is_word, self._after = None, False, Excerpt(KEPT_CHARACTERS)

    def _settle(self) -> None:
        """End the test that has begun, if there is a verdict on it."""
        if self._verdict is None:
            return
        name, verdict, output = self._current, self._verdict, self._printed
        output.append(f"{verdict.string[: verdict.start()]}\n{self._after}")
        self._current, self._verdict, self._is_word = "", None, False
        self._after = Excerpt(KEPT_CHARACTERS)
        self._ended += 1
        if verdict[1] == "FAILED":
            self._failed[name] = output
        elif verdict[1] == "ignored":
            self.report(
                name, Outcome.SKIPPED, reason=verdict[2] or "ignored", output=str(output).strip()
            )
        elif str(output).strip():
            self._passed[name] = output
        else:
            self.report(name, Outcome.PASSED)

    def _block_of(self, name: str) -> Excerpt | None:
        known = self._failed.get(name) or self._passed.get(name)
        if known is None and not self.has_reported(name):
            known = self._blocks.setdefault(name, Excerpt(KEPT_CHARACTERS))
        return known

    def _report_all(self) -> None:
        """Report the tests whose verdict or output may have been still to come."""
        self._block = None
        for name in self._listed or ():
            if name not in self._failed:
                output = self._passed.pop(name, None) or self._blocks.get(name)
                self._failed[name] = output or Excerpt(KEPT_CHARACTERS)
        for name, output in self._passed.items():
            self.report(name, Outcome.PASSED, output=str(output).strip())
        for name, output in self._failed.items():
            reason = rust_reason(str(output))
            self.report(name, Outcome.FAILED, reason=reason, output=str(output))
        self._passed, self._failed, self._blocks, self._listed = {}, {}, {}, None

    async def drain(self, end: End) -> None:
        """See Reader."""
        await super().drain(end)
        if self._is_word:
            self._settle()
        self._take_back()
        self._listed = None  # it may be cut short, or a test's
        self._report_all()

    def unfinished(self, end: End, reason: str) -> Iterable[tuple[str, str, str]]:
        """See Reader."""
        return [(self._current, reason, str(self._printed))] if self._current else []

    def better_reason(self, end: End) -> str:
        """See Reader."""
        said = last_words(self.output) if end.outcome is Outcome.FAILED and not end.oops else ""
        return said or super().better_reason(end)

    def never_ran(self, end: End) -> str:
        """See Reader. What ran side by side when the executable died is not known by name."""
        missing = self._planned - self._ended - bool(self._current)
        if missing <= 0 or not (end.is_early or (end.is_whole and not self._is_complete)):
            return ""
        return f"{missing} of {counted(self._planned, 'test')} did not end, or never ran"


def rust_reason(output: str) -> str:
    """Return why a test failed by its output: a panic, an error, or what libtest says of it."""
    lines = output.splitlines()
    if said := rust_panic(lines):
        return said
    told = [match[1] for line in lines if (match := _TOLD.match(line))]
    last = [line for line in lines if line.strip()][-1:]
    return one_line(told[:1] or last) or "failed"

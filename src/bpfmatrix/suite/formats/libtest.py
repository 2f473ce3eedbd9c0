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
_END = re.compile(r"(ok|FAILED|ignored)(?:, (.*)| \(time limit exceeded\))?(?: <[\d.]+s>)?$")
_BLOCK = re.compile(r"---- (\S.*?)(?: - should panic)? (?:stdout|stderr) ----$")
_TOLD = re.compile(r"(?:Error: |note: (?=test did not panic))(.*)$")
_RESULT = re.compile(r"test result: ")


class LibtestReader(LineReader):
    """Reports what passed at once, and what failed with the output that is printed at the end."""

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._planned = 0
        self._ended = 0
        self._current = ""
        """The test that has begun: it is printed before it ends if tests run one by one."""
        self._printed = Excerpt(KEPT_CHARACTERS)
        self._failed: dict[str, Excerpt] = {}
        self._block: Excerpt | None = None

    @property
    def running(self) -> str:
        """See Reader."""
        match = _BEGIN.match(self.partial)
        return self._current or (match[1] if match else "")

    def line(self, line: str) -> None:
        """See LineReader."""
        if match := _PLAN.match(line):
            self._planned += int(match[1])
        elif self._current:
            # With --nocapture, what a test prints is in front of its result.
            if match := _END.search(line):
                self._printed.append(line[: match.start()])
                self._end(self._current, match[1], match[2] or "")
            else:
                self._printed.append(f"{line}\n")
        elif match := _BEGIN.match(line):
            self._block, self._printed = None, Excerpt(KEPT_CHARACTERS)
            if ended := _END.search(match[2]):
                self._printed.append(match[2][: ended.start()])
                self._end(match[1], ended[1], ended[2] or "")
            else:
                self._current = match[1]
                self._printed.append(f"{match[2]}\n")
        elif match := _BLOCK.match(line):
            self._block = self._failed.get(match[1])
        elif _RESULT.match(line):
            self._report_failed()
        elif line == "failures:":
            self._block = None
        elif self._block is not None:
            self._block.append(f"{line}\n")

    def _end(self, name: str, word: str, said: str) -> None:
        self._current = ""
        self._ended += 1
        output = str(self._printed).strip()
        if word == "FAILED":
            self._failed[name] = self._printed
        elif word == "ignored":
            self.report(name, Outcome.SKIPPED, reason=said or "ignored", output=output)
        else:
            self.report(name, Outcome.PASSED, output=output)

    def _report_failed(self) -> None:
        self._block = None
        for name, output in self._failed.items():
            reason = rust_reason(str(output))
            self.report(name, Outcome.FAILED, reason=reason, output=str(output))
        self._failed.clear()

    async def drain(self, end: End) -> None:
        """See Reader."""
        await super().drain(end)
        self._report_failed()

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
        if not end.is_early or missing <= 0:
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

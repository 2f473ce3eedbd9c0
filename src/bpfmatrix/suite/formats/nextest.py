"""cargo-nextest, by the lines of its status and the output of the tests that failed."""

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import KEPT_CHARACTERS, End, LineReader, never_ran_words
from bpfmatrix.suite.formats.libtest import rust_reason

__all__ = ["NextestReader"]

_PLAN = re.compile(r"\s*Starting (\d{1,9}) tests? across ")
# The words of nextest-runner's status lines, of which TRY is not the last one of a test.
_STATUS = re.compile(
    r"\s*(?:TRY \d+ )?(?P<word>PASS|FAIL|LEAK|LEAK-FAIL|TIMEOUT|TMT|ABORT|EXEC FAIL|XFAIL|SKIP"
    r"|FLAKY \d+/\d+|SIG[A-Z0-9]+|SLOW)"
    r" \[\s*>?\s*(?P<seconds>[\d.]{1,20})s\] (?:\(\s*[\d─-]+/\d+\) )?(?P<name>\S.*?)\s*$"
)
_BLOCK = re.compile(r"--- (?:STDOUT|STDERR): +(.*?) ---$|\s+(?:stdout|stderr) ─+$")
_RULE = re.compile(r"[─-]{8,}$")
# `3/5` is said of a run that was ended early.
_SUMMARY = re.compile(r"\s*Summary \[.*?\] +(\d{1,9})(?:/\d{1,9})? tests? run: ")
_PASSES = ("PASS", "LEAK", "FLAKY")


class NextestReader(LineReader):
    """Reports what passed at once; what failed may be tried again, and is reported at the end."""

    failure_statuses = (100,)

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._planned = 0
        self._ran = 0
        """How many tests ran, as the summary says: those that passed may not be listed."""
        self._failed: dict[str, tuple[str, float, Excerpt]] = {}
        self._passed: set[str] = set()
        self._block: Excerpt | None = None
        self._last = ""
        self._is_over = False

    def line(self, line: str) -> None:
        """See LineReader."""
        if self._is_over:
            return  # the failures once more
        if match := _PLAN.match(line):
            self._planned += int(match[1])
        elif match := _SUMMARY.match(line):
            self._is_over, self._ran = True, int(match[1])
        elif match := _STATUS.match(line):
            self._status(match["word"], match["name"], match["seconds"])
        elif match := _BLOCK.match(line):
            found = self._failed.get(match[1] or self._last)
            self._block = found[2] if found else None
        elif _RULE.match(line):
            self._block = None
        elif self._block is not None:
            self._block.append(f"{line}\n")

    def _status(self, word: str, name: str, seconds: str) -> None:
        self._block = None
        if word in ("SLOW", "SKIP"):
            return
        took = float(seconds) if seconds.count(".") < 2 and seconds != "." else 0.0
        self._last = name
        if not word.startswith(_PASSES) or word == "LEAK-FAIL":
            self._failed[name] = (word, took, Excerpt(KEPT_CHARACTERS))
        elif name not in self._passed:
            self._passed.add(name)
            self._failed.pop(name, None)
            self.report(name, Outcome.PASSED, seconds=took)

    async def drain(self, end: End) -> None:
        """See Reader."""
        await super().drain(end)
        for name, (word, seconds, output) in self._failed.items():
            said = rust_reason(textwrap.dedent(str(output)))
            known = {"TIMEOUT": "nextest's time limit", "TMT": "nextest's time limit"}
            died = word.startswith("SIG") or word in known
            reason = f"killed by {word}" if word.startswith("SIG") else known.get(word, said)
            if died and said != "failed":
                reason = f"{reason}: {said}"
            self.report(name, Outcome.FAILED, seconds=seconds, reason=reason, output=str(output))

    def unfinished(self, end: End, reason: str) -> Iterable[tuple[str, str, str]]:
        """See Reader. It prints a test only when it has ended."""
        return ()

    def never_ran(self, end: End) -> str:
        """See Reader."""
        missing = self._planned - max(self._ran, len(self._passed) + len(self._failed))
        if missing <= 0 or not (end.is_early or end.is_whole):
            return ""
        return never_ran_words((), missing, self._planned)

"""What every reader of a runner's output does: it is fed bytes, and reports tests as they end.

A reader gives details: which tests there are, which failed and why. The end of the executable comes
last, and overrides them: whatever was printed, an executable that failed has a result that failed.
"""

import abc
import codecs
import re
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.host.text import counted
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import FINE, Outcome

__all__ = [
    "KEPT_CHARACTERS",
    "End",
    "LineReader",
    "Reader",
    "never_ran_words",
    "one_line",
    "skip_reason",
]

KEPT_CHARACTERS = 64 << 10
"""How much of a test's output is kept in its result: its beginning and its end. The log has all."""
_NAMED = 10
_REASON_CHARACTERS = 300
_NAME_CHARACTERS = 500
_LINE_CHARACTERS = 64 << 10


@dataclass(frozen=True)
class End:
    """How an executable ended. `outcome` is PASSED if only its output may say that it failed."""

    outcome: Outcome
    reason: str = ""
    status: int | None = None
    """Its exit status; None if the machine ended before it."""
    oops: bool = False
    """Whether the kernel had an oops while it ran."""

    @property
    def is_early(self) -> bool:
        """Whether the executable or the machine failed, so that tests may not have run."""
        return self.outcome not in (*FINE, Outcome.INTERRUPTED, Outcome.ERROR)

    @property
    def is_whole(self) -> bool:
        """Whether the executable says that it ran all of its tests."""
        return self.outcome is Outcome.PASSED


class Reader(abc.ABC):
    """Reads what one executable prints and writes, and reports a `TestResult` for each test."""

    skip_status: int | None = None
    """The exit status by which the executable says that it was skipped."""
    failure_statuses: Container[int] = range(1, 129)
    """The exit statuses by which it says that tests failed, and nothing else did.

    Any other one makes the executable itself fail, too: kernels.yaml may expect what failed.
    """

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        """`argv` is the command line in the guest."""
        self.test = test
        self.argv = argv
        self._report = report
        self._names: Counter[str] = Counter()
        self._has_failure = self._has_pass = False
        self._started = time.monotonic()

    # What a format has to say.

    @staticmethod
    def arguments(report: str) -> tuple[str, ...]:
        """Return arguments that make the executable write what is read.

        `report` is the path of a file in the guest, whose content comes to `feed_report`.
        """
        return ()

    @property
    def running(self) -> str:
        """The names of the tests that have begun and not ended, or `""` if that is unknown."""
        return ""

    @property
    @abc.abstractmethod
    def output(self) -> str:
        """What is shown as the output of the executable itself."""

    @abc.abstractmethod
    async def feed(self, data: bytes) -> None:
        """Take the next bytes of the output."""

    def feed_report(self, data: bytes) -> None:  # noqa: B027 - most formats have no file
        """Take the content of the file that the executable was asked to write."""

    async def start(self) -> None:
        """Take note that the executable was started."""
        self.began(time.monotonic())

    def began(self, at: float) -> None:
        """Take note of when the executable was started, by the clock of `time.monotonic`."""
        self._started = at

    def kill(self) -> None:  # noqa: B027 - most formats have no process
        """End the processes that read the output, however the run ended."""

    async def drain(self, end: End) -> None:  # noqa: B027 - not every format has anything left
        """Take the end of the output, and report each test that has ended."""

    def unfinished(self, end: End, reason: str) -> Iterable[tuple[str, str, str]]:
        """Return the tests that began and did not end: name, reason, output.

        `reason` is why the executable ended, which a format may know better for a test.
        """
        return ()

    def never_ran(self, end: End) -> str:
        """Return which tests should have run and did not, in words, or `""`."""
        return ""

    def complaint(self) -> str:
        """Return what is wrong with the output as a whole, so that the executable failed."""
        return ""

    def explains(self, end: End) -> bool:
        """Return whether tests that failed are why the executable ended as it did."""
        failed = end.outcome is Outcome.FAILED and end.status is not None
        return failed and end.status in self.failure_statuses

    def better_reason(self, end: End) -> str:
        """Return why the executable ended, if its output says that better than its status."""
        if end.outcome is Outcome.SKIPPED:
            return skip_reason(self.output, end.reason)
        return end.reason

    def without_tests(self, end: End) -> tuple[Outcome, str] | None:
        """Return the outcome and reason of an executable that ended well and reported no test.

        None if it then has no result.
        """
        return Outcome.PASSED, ""

    # What is the same for each.

    async def close(self, end: End) -> None:
        """Take the end of the executable, or of the machine, and report what is not reported."""
        await self.drain(end)
        bad = Outcome.FAILED if end.outcome in FINE else end.outcome
        reason = self.better_reason(end)
        unfinished = list(self.unfinished(end, reason))
        for name, why, output in unfinished:
            self.report(name, bad, reason=why or "did not end", output=output)
        said = [self.complaint(), self.never_ran(end)]
        # A result of the executable itself is only needed if no test explains why it failed.
        explained = bool(unfinished) or (self._has_failure and self.explains(end))
        if end.outcome not in FINE and (end.oops or not explained):
            said.insert(0, reason)
        if why := "; ".join(filter(None, said)):
            self._report_whole(bad, why)
        elif end.outcome is Outcome.SKIPPED and (self._has_pass or not self._names):
            self._report_whole(Outcome.SKIPPED, reason)
        elif not self._names and (empty := self.without_tests(end)):
            self._report_whole(*empty)

    def report(
        self,
        name: str,
        outcome: Outcome,
        *,
        seconds: float = 0.0,
        reason: str = "",
        output: str = "",
        expected: str = "",
    ) -> None:
        """Report a test. A name that was reported before gets a number, as Go does it."""
        name = _cut(name)
        self._names[name] += 1
        if (count := self._names[name]) > 1:
            name = f"{name}#{count - 1:02}"
        self._has_failure = self._has_failure or (outcome not in FINE and not expected)
        self._has_pass = self._has_pass or outcome is Outcome.PASSED
        result = TestResult(self.test.name, name, outcome, seconds, reason, output, expected)
        self._report(result)

    def has_reported(self, name: str) -> bool:
        """Return whether a test of this name was reported."""
        return _cut(name) in self._names

    def _report_whole(self, outcome: Outcome, reason: str) -> None:
        seconds = time.monotonic() - self._started
        self.report(self.test.name, outcome, seconds=seconds, reason=reason, output=self.output)


class LineReader(Reader):
    """A reader of text by lines. It keeps an excerpt of all of the output."""

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._output = Excerpt(KEPT_CHARACTERS)
        # The bytes of a character may come in two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.partial = ""
        """The beginning of the line that has not ended yet."""

    @abc.abstractmethod
    def line(self, line: str) -> None:
        """Take the next line, without its end."""

    @property
    def output(self) -> str:
        """See Reader."""
        return str(self._output)

    async def feed(self, data: bytes) -> None:
        """See Reader."""
        self._take(self._decoder.decode(data))

    async def drain(self, end: End) -> None:
        """See Reader."""
        self._take(self._decoder.decode(b"", final=True))
        if self.partial:
            self._end_line(self.partial)
            self.partial = ""

    def _take(self, text: str) -> None:
        self._output.append(text)
        first, *others = text.split("\n")
        # A longer line is of no runner: its beginning is enough.
        self.partial += first[: max(0, _LINE_CHARACTERS - len(self.partial))]
        for piece in others:
            self._end_line(self.partial)
            self.partial = piece[:_LINE_CHARACTERS]

    def _end_line(self, line: str) -> None:
        self.line(line.removesuffix("\r"))


def _cut(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[:_NAME_CHARACTERS]}..."


def one_line(lines: Iterable[str]) -> str:
    """Return the lines that are not empty as one, cut where it is long."""
    joined = ""
    for line in filter(None, (" ".join(line.split()) for line in lines)):
        if joined and len(joined) + len(line) > _REASON_CHARACTERS:
            return f"{joined} ..."
        joined += f"{_joint(joined)}{line}"
    return joined if len(joined) <= 2 * _REASON_CHARACTERS else f"{joined[:_REASON_CHARACTERS]} ..."


def _joint(before: str) -> str:
    if not before:
        return ""
    return " " if before[-1] in ":,;.({[=-+" else "; "


def never_ran_words(
    names: Sequence[str], count: int | None = None, total: int | None = None
) -> str:
    """Say how many tests never ran, and which. `names` may be fewer than `count`, or ranges."""
    count = len(names) if count is None else count
    if not count:
        return ""
    listed = ", ".join(names[:_NAMED])
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    whole = f"{count} of {counted(total, 'test')}" if total else counted(count, "test")
    return f"{whole} never ran{': ' if listed else ''}{listed}{more}"


def skip_reason(output: str, default: str) -> str:
    """Return why an executable was skipped: the last line that it printed, without the word."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = re.sub(r"^(#\s*)*\[?skip(ped)?\]?\b[:\s]*", "", lines[-1], flags=re.I) if lines else ""
    return said or default

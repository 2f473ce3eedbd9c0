"""The output of Go tests, read by Go's own `go tool test2json`.

A `GoReader` is fed the output of a test binary, and reports a `TestResult` for each test and
subtest as it ends. If the binary died, it says which tests never ran.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bpfmatrix.host import tools
from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.suite.formats.base import KEPT_CHARACTERS, End, Reader, never_ran_words
from bpfmatrix.suite.formats.go_binary import chosen_tests, declared_tests
from bpfmatrix.suite.formats.go_reasons import FRAME, failure_reason, last_line
from bpfmatrix.suite.formats.go_stacks import DEATH, GOROUTINE, Death, data_race, death, place
from bpfmatrix.suite.formats.throttle import Throttle

__all__ = ["GoReader"]

_PANIC = 2
"""The exit status of a Go program that panicked."""
_OUTCOMES = {"pass": Outcome.PASSED, "fail": Outcome.FAILED, "skip": Outcome.SKIPPED}


@dataclasses.dataclass(frozen=True)
class _Ended:
    """A test that has ended, and is not reported yet."""

    name: str
    outcome: Outcome
    seconds: float
    reason: str
    output: str


class GoReader(Reader):
    """Passes the output of one test binary through test2json, and reports its tests."""

    failure_statuses = (1,)

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._throttle = Throttle()
        # Files may change before the next run, whose reader is another one.
        self._source_lines = functools.lru_cache(maxsize=64)(_source_lines)
        self._running: dict[str, Excerpt] = {}
        self._begun: set[str] = set()
        self._package = Excerpt(KEPT_CHARACTERS)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        # What the binary may be dying of: all output from a line on that began like a panic.
        self._last_words: Excerpt | None = None
        self._has_stacks = False
        """Whether there are stacks among them."""
        # Subtests that have just failed, the innermost first. If a panic ended them, the testing
        # package reports them as failed first, and lets the panic go on only then.
        self._pending: list[_Ended] = []
        self._panicked = False
        """Whether such a panic may have followed the tests that are pending."""
        self._has_dead_test = False
        """Whether a test was reported that failed by such a panic."""
        # Tests that are above one that has ended, and above one that has failed.
        self._above_ended: set[str] = set()
        self._above_failed: set[str] = set()

    @staticmethod
    def available() -> bool:
        """Return whether Go is installed, which reads the output."""
        return tools.find("go") is not None

    async def start(self) -> None:
        """Start test2json."""
        await super().start()
        self._process = await asyncio.create_subprocess_exec(
            *(str(tools.require("go", "golang-go")), "tool", "test2json", "-t"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Each event is a line, and has a line of output as JSON.
            limit=64 << 20,
            # Ctrl-C at the terminal must not end it before all of its output was read.
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read())

    @property
    def running(self) -> str:
        """The tests that have begun and not ended, without those whose subtests run."""
        names = [
            name
            for name in self._running
            if not any(other.startswith(f"{name}/") for other in self._running)
        ]
        return ", ".join(names)

    async def feed(self, data: bytes) -> None:
        """Take the next bytes of the binary's output."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(self._throttle.feed(data))
        await self._process.stdin.drain()

    async def drain(self, end: End) -> None:
        """Take the end of the output, and wait until all tests in it are reported."""
        if self._process is None or self._reader is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        await self._reader
        if self._panicked and (died := self._death()):
            reason = died.reason(self.test.folder)
            self._has_dead_test = bool(self._pending) or self._has_dead_test
            self._pending = [dataclasses.replace(test, reason=reason) for test in self._pending]
        self._report_pending()
        await self._process.wait()

    def kill(self) -> None:
        """End test2json if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # not Process.kill: see Machine._kill
        if self._reader is not None:
            self._reader.cancel()

    def unfinished(self, end: End, reason: str) -> Iterable[tuple[str, str, str]]:
        """Return each test that began and did not end, subtests first.

        If the binary died of a panic, that is the reason of those that failed. If it ran into its
        limit, it was made to print its stacks, which tell where each test was.
        """
        died = self._death()
        folder = self.test.folder
        for name in sorted(self._running, reverse=True):
            why = reason
            if died and end.outcome in (*FINE, Outcome.FAILED):
                why = died.reason(folder, name)
            elif died and end.outcome is Outcome.TIMEOUT and (frame := died.frame(name)):
                why = f"{reason}, in {place(frame, folder)}"
            yield name, why, str(self._running[name])

    def never_ran(self, end: End) -> str:
        """Return which tests of a binary that died never ran."""
        if not end.is_early or any("test.failfast" in word for word in self.argv):
            return ""
        tests = chosen_tests(declared_tests(self.test.path), self.argv)
        return never_ran_words([name for name in tests if name not in self._begun])

    def explains(self, end: End) -> bool:
        """See Reader. A panic within a test makes that test fail, too."""
        died = end.outcome is Outcome.FAILED and end.status == _PANIC
        return (died and self._has_dead_test) or super().explains(end)

    def better_reason(self, end: End) -> str:
        """See Reader."""
        if end.outcome is not Outcome.FAILED or end.oops:
            return end.reason
        if died := self._death():
            return died.reason(self.test.folder)
        return data_race(str(self._package), self.test.folder) or end.reason

    def without_tests(self, end: End) -> None:
        """Return None: a binary in which no test was chosen has no result."""

    @property
    def output(self) -> str:
        """The output of the binary outside of its tests."""
        return str(self._package)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._take(json.loads(line))

    def _take(self, event: dict[str, object]) -> None:
        name, action = str(event.get("Test", "")), str(event["Action"])
        output = str(event.get("Output", "")) if action == "output" else ""
        self._look_for_death(name, output)
        if self._pending and not self._panicked and not self._may_panic(name, action, output):
            self._report_pending()
        if action == "output":
            self._running.get(name, self._package).append(output)
        elif name and action == "run":
            self._begun.add(name)
            self._running[name] = Excerpt(KEPT_CHARACTERS)
        elif name and action in _OUTCOMES:
            self._end(name, _OUTCOMES[action], float(str(event.get("Elapsed", 0))))

    def _end(self, name: str, outcome: Outcome, seconds: float) -> None:
        output = str(self._running.pop(name, ""))
        died = outcome is Outcome.FAILED and self._has_stacks and death(output) is not None
        self._has_dead_test = self._has_dead_test or died
        reason = ""
        if outcome is not Outcome.PASSED:
            reason = failure_reason(output, self._source_line, self.test.folder)
        explained = name in self._above_failed or outcome is not Outcome.FAILED
        parts = name.split("/")
        above = ["/".join(parts[:length]) for length in range(1, len(parts))]
        self._above_ended.update(above)
        if name in self._above_ended and not reason and explained:
            return  # its subtests say everything
        if outcome is Outcome.FAILED and not reason:
            printed = last_line(output)
            reason = "no message" + (f"; it last printed: {printed}" * bool(printed))
        self._pending.append(_Ended(name, outcome, seconds, reason, output))
        if outcome is Outcome.FAILED:
            self._above_failed.update(above)
        if not self._panicked and (outcome is not Outcome.FAILED or "/" not in name):
            self._report_pending()

    def _may_panic(self, name: str, action: str, output: str) -> bool:
        """Whether a panic of the tests that are pending may follow an event, or is in it."""
        is_above = all(test.name.startswith(f"{name}/") for test in self._pending)
        if is_above and action == "output" and DEATH.match(output):
            self._panicked = True
            return True
        ended = action == "fail" or (action == "output" and bool(FRAME.match(output)))
        return is_above and ended

    def _report_pending(self) -> None:
        for test in self._pending:
            self.report(
                test.name,
                test.outcome,
                seconds=test.seconds,
                reason=test.reason,
                output=test.output,
            )
        self._pending.clear()

    def _look_for_death(self, name: str, output: str) -> None:
        if DEATH.match(output) and not self._has_stacks:
            self._last_words = Excerpt(KEPT_CHARACTERS)
        elif name and FRAME.match(output):
            # The binary goes on: a test has only printed such words.
            self._last_words, self._has_stacks, self._panicked = None, False, False
        if self._last_words is not None:
            self._last_words.append(output)
            self._has_stacks = self._has_stacks or bool(GOROUTINE.match(output.rstrip()))

    def _death(self) -> Death | None:
        return death(str(self._last_words)) if self._has_stacks else None

    def _source_line(self, file: str, number: int) -> str:
        folder = self.test.folder
        lines = self._source_lines(folder / Path(file).name) if folder else ()
        return lines[number - 1] if 0 < number <= len(lines) else ""


def _source_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a source file of the host; none if it is not there."""
    try:
        return tuple(path.read_text(errors="replace").splitlines())
    except OSError:
        return ()

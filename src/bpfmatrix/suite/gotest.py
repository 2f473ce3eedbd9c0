"""The output of Go tests, read by Go's own `go tool test2json`.

A `GoOutput` is fed the output of a test binary, and reports a `TestResult` for each test and
subtest as it ends. These are only details: whether the binary passed is decided by its exit status.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import signal
from collections.abc import Callable

from bpfmatrix.host import tools
from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome

__all__ = ["KEPT_CHARACTERS", "GoOutput", "Throttle", "failure_reason"]

_OUTCOMES = {"pass": Outcome.PASSED, "fail": Outcome.FAILED, "skip": Outcome.SKIPPED}
KEPT_CHARACTERS = 64 << 10
"""How much of a test's output is kept in its result: its beginning and its end. The log has all."""
# How much output test2json is given between two lines of the testing package: it makes 150 bytes of
# JSON from a line of two bytes.
_THROTTLED_BYTES = 256 << 10
# The testing package begins its own lines with this byte (Go's cmd/test2json, since 1.20).
_MARK = re.compile(rb"(?=\x16)")
# The lines of the testing package around the output of a test.
_FRAME = re.compile(r"\s*(=== (RUN|PAUSE|CONT|NAME)|--- (PASS|FAIL|SKIP):)")
_WHERE = re.compile(r"^[\w./-]+\.go:\d+: ")
# What Go's runtime prints when a program dies, and the line behind it from which on there are
# stacks (runtime/panic.go, printpanics and fatalthrow).
_DEATH = re.compile(r"(panic|fatal error): ")
_STACK = re.compile(r"goroutine \d+ .*\[.*\]:$")
_RECOVERED = re.compile(r" \[recovered(, repanicked)?\]$")


class Throttle:
    """Passes the lines of the testing package, and a limited part of the output between them."""

    def __init__(self) -> None:
        self._passed = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, and return those that pass."""
        passing = []
        for piece in _MARK.split(data):
            if piece.startswith(b"\x16"):
                self._passed = 0
            room = _THROTTLED_BYTES - self._passed
            self._passed += len(piece)
            if room > 0:
                passing.append(piece[:room])
                if len(piece) > room:
                    passing.append(b"\n... cut here, the log has the rest ...\n")
        return b"".join(passing)


class GoOutput:
    """Passes the output of one test binary through test2json, and reports its tests."""

    def __init__(self, binary: str, report: Callable[[TestResult], None]) -> None:
        self._binary = binary
        self._report = report
        self._throttle = Throttle()
        self._running: dict[str, Excerpt] = {}
        self._package = Excerpt(KEPT_CHARACTERS)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        # What the binary may have died of: the last line that began like a panic. And what it did
        # die of: the same, if stacks followed.
        self._maybe_death = ""
        self._death = ""
        # Subtests that have just failed, the innermost first. If a panic ended them, the testing
        # package reports them as failed first, and lets the panic go on only then.
        self._pending: list[TestResult] = []
        self.results: list[TestResult] = []
        """The tests that have ended, in that order."""

    @staticmethod
    def available() -> bool:
        """Return whether Go is installed, which reads the output."""
        return tools.find("go") is not None

    async def start(self) -> None:
        """Start test2json."""
        self._process = await asyncio.create_subprocess_exec(
            *(str(tools.require("go", "golang-go")), "tool", "test2json", "-t", "-p", self._binary),
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

    async def close(self) -> None:
        """Take the end of the output, and wait until all tests in it are reported."""
        if self._process is None or self._reader is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        await self._reader
        self._report_pending()
        await self._process.wait()

    def kill(self) -> None:
        """End test2json if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # not Process.kill: see Machine._kill
        if self._reader is not None:
            self._reader.cancel()

    def unfinished(self, outcome: Outcome, reason: str) -> list[TestResult]:
        """Return a result for each test that began and did not end, subtests first.

        If the binary died of a panic, that is the reason of those that failed.
        """
        if outcome is Outcome.FAILED and self._death:
            reason = self._death
        return [
            TestResult(self._binary, name, outcome, 0.0, reason, str(self._running[name]))
            for name in sorted(self._running, reverse=True)
        ]

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
        if self._pending and not self._may_panic(name, action, output):
            self._report_pending()
        if action == "output":
            self._running.get(name, self._package).append(output)
        elif name and action == "run":
            self._running[name] = Excerpt(KEPT_CHARACTERS)
        elif name and action in _OUTCOMES:
            self._end(name, _OUTCOMES[action], float(str(event.get("Elapsed", 0))))

    def _end(self, name: str, outcome: Outcome, seconds: float) -> None:
        output = str(self._running.pop(name, ""))
        reason = "" if outcome is Outcome.PASSED else failure_reason(output)
        ended = (*self.results, *self._pending)
        subtests = [test for test in ended if test.name.startswith(f"{name}/")]
        failed = any(test.outcome is Outcome.FAILED for test in subtests)
        if subtests and not reason and (failed or outcome is not Outcome.FAILED):
            return  # its subtests say everything
        self._pending.append(TestResult(self._binary, name, outcome, seconds, reason, output))
        if outcome is not Outcome.FAILED or "/" not in name:
            self._report_pending()

    def _may_panic(self, name: str, action: str, output: str) -> bool:
        """Whether a panic of the tests that are pending may follow an event, or is in it."""
        is_above = all(test.name.startswith(f"{name}/") for test in self._pending)
        ended = action == "fail" or (action == "output" and bool(_FRAME.match(output)))
        if is_above and action == "output" and _DEATH.match(output):
            reason = _reason_of_death(output)
            self._pending = [dataclasses.replace(test, reason=reason) for test in self._pending]
            return False
        return is_above and ended

    def _report_pending(self) -> None:
        for result in self._pending:
            self.results.append(result)
            self._report(result)
        self._pending.clear()

    def _look_for_death(self, name: str, output: str) -> None:
        if _DEATH.match(output):
            self._maybe_death = _reason_of_death(output)
        elif _STACK.match(output.strip()) and self._maybe_death:
            self._death = self._maybe_death
        elif name and _FRAME.match(output):
            # The binary goes on: a test has only printed such words.
            self._maybe_death = self._death = ""


def failure_reason(output: str) -> str:
    """Return the line of a test's output that best says why it did not pass, or `""`.

    That is the first line of a panic, or else the last message of the test itself, since a message
    that fails or skips the test comes after those that it only logs, or else the first line.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    own = [line for line in lines if not _FRAME.match(line)]
    # Words that a test prints are no panic: stacks follow one.
    stacks = any(_STACK.match(line) for line in own)
    panics = [_reason_of_death(line) for line in own if stacks and _DEATH.match(line)]
    written = [line for line in own if _WHERE.match(line)]
    chosen = panics[:1] or written[-1:] or own[:1]
    return _WHERE.sub("", chosen[0]) if chosen else ""


def _reason_of_death(line: str) -> str:
    return _RECOVERED.sub("", line.strip())

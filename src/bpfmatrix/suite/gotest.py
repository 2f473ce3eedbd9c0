"""Go's test output, read by Go's own `go tool test2json`.

A `GoOutput` is fed what a test binary prints and gives a `TestResult` for each test and subtest as
it ends. What it gives is detail: whether the binary passed is for its exit status to say.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Callable

from bpfmatrix.host import tools
from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome

__all__ = ["GoOutput", "Throttle", "said"]

_OUTCOMES = {"pass": Outcome.PASSED, "fail": Outcome.FAILED, "skip": Outcome.SKIPPED}
# How much of a test's output its result keeps, at the begin and at the end; the log has it all.
KEPT_CHARACTERS = 64 << 10
# How much output in a row test2json is given. It makes 150 bytes of JSON of a line of two.
_THROTTLED_BYTES = 256 << 10
# The testing package puts this before what it says itself (Go's cmd/test2json, since 1.20).
_MARK = re.compile(rb"(?=\x16)")
# Lines by which the testing package frames the output of a test.
_FRAME = re.compile(r"\s*(=== (RUN|PAUSE|CONT|NAME)|--- (PASS|FAIL|SKIP):)")
_WHERE = re.compile(r"^[\w./-]+\.go:\d+: ")


class Throttle:
    """Passes what the testing package says, and only so much of what a test prints in between."""

    def __init__(self) -> None:
        self._passed = 0

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes, give those that pass."""
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
    """The output of one test binary on its way through test2json."""

    def __init__(self, binary: str, report: Callable[[TestResult], None]) -> None:
        self._binary = binary
        self._report = report
        self._throttle = Throttle()
        self._running: dict[str, Excerpt] = {}
        self._package = Excerpt(KEPT_CHARACTERS)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self.results: list[TestResult] = []
        """The tests that ended, in the order in which they did."""

    @staticmethod
    def available() -> bool:
        """Tell whether there is a Go that could read the output."""
        return tools.find("go") is not None

    async def start(self) -> None:
        """Start test2json."""
        self._process = await asyncio.create_subprocess_exec(
            *(str(tools.require("go", "golang-go")), "tool", "test2json", "-t", "-p", self._binary),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # An event is a line, and holds a line of output as JSON.
            limit=64 << 20,
            # Ctrl-C at the terminal must not end it before what it still holds was read.
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read())

    async def feed(self, data: bytes) -> None:
        """Take the next bytes that the binary printed."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(self._throttle.feed(data))
        await self._process.stdin.drain()

    async def close(self) -> None:
        """Take the end of the output, and wait until all of it was read."""
        if self._process is None or self._reader is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        await self._reader
        await self._process.wait()

    def kill(self) -> None:
        """End test2json if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # not Process.kill: see Machine._kill
        if self._reader is not None:
            self._reader.cancel()

    def unfinished(self, outcome: Outcome, reason: str) -> list[TestResult]:
        """Give the tests that began and did not end, the innermost ones first, as such results."""
        return [
            TestResult(self._binary, name, outcome, 0.0, reason, str(self._running[name]))
            for name in sorted(self._running, reverse=True)
        ]

    @property
    def output(self) -> str:
        """What the binary printed outside of its tests."""
        return str(self._package)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._take(json.loads(line))

    def _take(self, event: dict[str, object]) -> None:
        name, action = str(event.get("Test", "")), str(event["Action"])
        if action == "output":
            test = self._running.get(name, self._package)
            test.append(str(event["Output"]))
        elif name and action == "run":
            self._running[name] = Excerpt(KEPT_CHARACTERS)
        elif name and action in _OUTCOMES:
            self._end(name, _OUTCOMES[action], float(str(event.get("Elapsed", 0))))

    def _end(self, name: str, outcome: Outcome, seconds: float) -> None:
        output = str(self._running.pop(name, ""))
        reason = "" if outcome is Outcome.PASSED else said(output)
        subtests = [test for test in self.results if test.name.startswith(f"{name}/")]
        if (
            subtests
            and not reason
            and (
                outcome is not Outcome.FAILED or any(t.outcome is Outcome.FAILED for t in subtests)
            )
        ):
            return  # its subtests have said it all
        result = TestResult(self._binary, name, outcome, seconds, reason, output)
        self.results.append(result)
        self._report(result)


def said(output: str) -> str:
    """Return the line that tells most of why a test did not pass, or nothing.

    That is a panic's first line; or else the last thing that the test itself wrote, for what fails
    or skips a test comes after what it only logs; or else the first line of all.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    own = [line for line in lines if not _FRAME.match(line)]
    panics = [line for line in own if line.startswith("panic: ")]
    written = [line for line in own if _WHERE.match(line)]
    chosen = panics[:1] or written[-1:] or own[:1]
    return _WHERE.sub("", chosen[0]) if chosen else ""

"""The log and the test results of one executable that runs in the guest.

A Go test binary has a result for each of its tests; any other executable has one result. Whether it
passed is decided by how the executable ended; its output only gives details.
"""

import codecs
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.host.faults import naming
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.gotest import KEPT_CHARACTERS, GoOutput
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.protocol import Exited, TestCommand

__all__ = ["Recorder"]

# A test that floods its output must not fill the disk.
_LOG_BYTES = 64 << 20


class Recorder:
    """Takes the events of one executable, and reports its results as they come."""

    def __init__(
        self,
        test: Executable,
        command: TestCommand,
        log: Path,
        limit: Limit,
        report: Callable[[TestResult], None],
    ) -> None:
        self.id = command.id
        self.name = test.name
        self.log = log
        self._limit = limit
        self._report = report
        as_go = test.kind == "go-test" and GoOutput.available()
        self._go = GoOutput(test.name, report) if as_go else None
        self._output = Excerpt(KEPT_CHARACTERS)
        # The bytes of a character may come in two pieces.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._file: IO[bytes] | None = None
        self._size = 0
        self._started = 0.0

    async def start(self) -> None:
        """Take note that the executable was started."""
        self._started = time.monotonic()
        # It is unbuffered for those who read it while the test runs.
        with naming(self.log):
            self._file = self.log.open("wb", buffering=0)
        if self._go:
            await self._go.start()

    @property
    def running(self) -> str:
        """What runs in it: its name, or those of the Go tests that have begun and not ended."""
        return (self._go.running if self._go else "") or self.name

    async def feed(self, data: bytes) -> None:
        """Take the next bytes of its output."""
        assert self._file is not None
        room = _LOG_BYTES - self._size
        self._size += len(data)
        with naming(self.log):
            _write(self._file, data[: max(0, room)])
            if 0 <= room < len(data):
                cut = f"\n... cut here, after {_LOG_BYTES >> 20} MiB ...\n"
                _write(self._file, cut.encode())
        if self._go:
            await self._go.feed(data)
        else:
            self._output.append(self._decoder.decode(data))

    async def close(self, exited: Exited) -> None:
        """Take its end, after all of its output."""
        if self._file:
            self._file.close()
        self._output.append(self._decoder.decode(b"", final=True))
        outcome, reason = Outcome.PASSED, ""
        if exited.limit:
            outcome, reason = Outcome.TIMEOUT, f"ran into its limit of {self._limit}"
        elif exited.status != 0:
            outcome, reason = Outcome.FAILED, exited.reason
        elif exited.oops:
            outcome, reason = Outcome.FAILED, "the kernel had an oops while it ran"
        if self._go:
            await self._close_go(outcome, reason, exited)
        else:
            self._report_whole(outcome, reason, str(self._output))

    async def _close_go(self, outcome: Outcome, reason: str, exited: Exited) -> None:
        assert self._go is not None
        await self._go.close()
        bad = [result for result in self._go.results if result.outcome is Outcome.FAILED]
        cut_short = outcome if outcome is not Outcome.PASSED else Outcome.FAILED
        unfinished = self._go.unfinished(cut_short, reason or "did not end")
        for result in unfinished:
            self._report(result)
        # A result of the binary itself is only needed if no test explains why it failed.
        if outcome is not Outcome.PASSED and (exited.oops or not (bad or unfinished)):
            self._report_whole(outcome, reason, self._go.output)

    async def abandon(self, outcome: Outcome, reason: str) -> None:
        """Take the end of the machine. There is nothing to report if this does not run then."""
        if self._file is None or self._file.closed:
            return
        self._file.close()
        if self._go:
            await self._go.close()
        unfinished = self._go.unfinished(outcome, reason) if self._go else []
        for result in unfinished:
            self._report(result)
        if not unfinished:
            output = self._go.output if self._go else str(self._output)
            self._report_whole(outcome, reason, output)

    def _report_whole(self, outcome: Outcome, reason: str, output: str) -> None:
        seconds = time.monotonic() - self._started
        self._report(TestResult(self.name, self.name, outcome, seconds, reason, output))

    def kill(self) -> None:
        """End test2json, and close the log, however the run ended."""
        if self._go:
            self._go.kill()
        if self._file:
            self._file.close()


def _write(file: IO[bytes], data: bytes) -> None:
    """Write all of the data: a write without a buffer may take only a part of it."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]

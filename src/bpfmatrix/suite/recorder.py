"""The log and the test results of one executable that runs in the guest.

The reader of its format (`suite/formats`) finds the tests in what it prints. Whether it passed is
decided by how it ended: the output may say that more has failed, and never that something passed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import IO

from bpfmatrix.host.faults import naming
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite import formats
from bpfmatrix.suite.formats import End
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.protocol import Exited, Output, Report, TestCommand

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
        self._reader = formats.reader(test, command.argv, report)
        self._file: IO[bytes] | None = None
        self._size = 0

    async def start(self) -> None:
        """Take note that the executable was started."""
        # It is unbuffered for those who read it while the test runs.
        with naming(self.log):
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.log.open("wb", buffering=0)
        await self._reader.start()

    @property
    def running(self) -> str:
        """What runs in it: its name, or those of its tests that have begun and not ended."""
        return self._reader.running or self.name

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
        await self._reader.feed(data)

    async def take(self, event: Output | Report) -> None:
        """Take the next part of its output, or of the report that it wrote of itself."""
        if isinstance(event, Report):
            self._reader.feed_report(event.data)
        else:
            await self.feed(event.data)

    async def close(self, exited: Exited) -> None:
        """Take its end, after all of its output."""
        if self._file:
            self._file.close()
        await self._reader.close(self._end(exited))

    def _end(self, exited: Exited) -> End:
        if exited.limit:
            return End(Outcome.TIMEOUT, f"ran into its limit of {self._limit}", exited.status)
        if exited.oops:
            reason = exited.reason if exited.status else "the kernel had an oops while it ran"
            return End(Outcome.FAILED, reason, exited.status, oops=True)
        if exited.status == 0:
            return End(Outcome.PASSED, status=0)
        skipped = exited.status == self._reader.skip_status
        outcome = Outcome.SKIPPED if skipped else Outcome.FAILED
        return End(outcome, exited.reason, exited.status)

    async def abandon(self, outcome: Outcome, reason: str) -> None:
        """Take the end of the machine. There is nothing to report if this does not run then."""
        if self._file is None or self._file.closed:
            return
        self._file.close()
        await self._reader.close(End(outcome, reason))

    def kill(self) -> None:
        """End the processes that read its output, and close the log, however the run ended."""
        self._reader.kill()
        if self._file:
            self._file.close()


def _write(file: IO[bytes], data: bytes) -> None:
    """Write all of the data: a write without a buffer may take only a part of it."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]

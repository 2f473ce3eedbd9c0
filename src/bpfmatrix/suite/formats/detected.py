"""Executables whose format nobody declared: the first line that they print tells it."""

import re
from collections.abc import Callable, Sequence

from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.suite.formats.base import End, Reader
from bpfmatrix.suite.formats.libtest import LibtestReader
from bpfmatrix.suite.formats.plain import PlainReader
from bpfmatrix.suite.formats.tap import TapReader

__all__ = ["DetectedReader"]

_FIRST_LINES: tuple[tuple[re.Pattern[bytes], type[Reader]], ...] = (
    (re.compile(rb"TAP version 1[34]\s*$|1\.\.\d{1,9}\s*(#.*)?$"), TapReader),
    (re.compile(rb"running \d{1,9} tests?\s*$"), LibtestReader),
)
# Whoever prints a longer line first prints none of those.
_LINE_BYTES = 200


class DetectedReader(Reader):
    """Waits for the first line that is not empty, and passes everything on to the reader for it."""

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._waiting = b""
        self._inner: Reader | None = None

    async def _choose(self, line: bytes) -> Reader:
        chosen = next((one for form, one in _FIRST_LINES if form.match(line)), PlainReader)
        self._inner = chosen(self.test, self.argv, self._report)
        await self._inner.start()
        self._inner.began(self._started)
        await self._inner.feed(self._waiting)
        self._waiting = b""
        return self._inner

    @property
    def running(self) -> str:
        """See Reader."""
        return self._inner.running if self._inner else ""

    @property
    def output(self) -> str:
        """See Reader."""
        return self._inner.output if self._inner else ""

    async def feed(self, data: bytes) -> None:
        """See Reader."""
        if self._inner is not None:
            await self._inner.feed(data)
            return
        self._waiting += data
        line, end, _ = self._waiting.lstrip(b"\r\n").partition(b"\n")
        if end or len(line) > _LINE_BYTES:
            await self._choose(line)

    async def close(self, end: End) -> None:
        """See Reader."""
        inner = self._inner or await self._choose(self._waiting.strip())
        await inner.close(end)

    def kill(self) -> None:
        """See Reader."""
        if self._inner:
            self._inner.kill()

"""Readers of what test runners print and write: one for each `format` of an executable."""

from collections.abc import Callable, Sequence

from bpfmatrix.payload.model import Executable, Format
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.suite.formats.base import End, Reader
from bpfmatrix.suite.formats.bats import BatsReader
from bpfmatrix.suite.formats.go import GoReader
from bpfmatrix.suite.formats.kselftest import KselftestReader
from bpfmatrix.suite.formats.plain import AutomakeReader, PlainReader
from bpfmatrix.suite.formats.tap import TapReader

__all__ = ["End", "Reader", "reader"]

_READERS: dict[Format, type[Reader]] = {
    "go": GoReader,
    "automake": AutomakeReader,
    "plain": PlainReader,
    "tap": TapReader,
    "kselftest": KselftestReader,
    "bats": BatsReader,
}


def reader(test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]) -> Reader:
    """Return the reader of an executable's output, which reports its tests as they end."""
    kind = _READERS.get(test.format, PlainReader)
    if kind is GoReader and not GoReader.available():
        kind = PlainReader
    return kind(test, argv, report)

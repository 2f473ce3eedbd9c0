"""Readers of what test runners print and write: one for each `format` of an executable."""

from collections.abc import Callable, Sequence

from bpfmatrix.payload.model import Executable, Format
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.suite.formats.base import End, Reader
from bpfmatrix.suite.formats.bats import BatsReader
from bpfmatrix.suite.formats.catch2 import Catch2Reader
from bpfmatrix.suite.formats.detected import DetectedReader
from bpfmatrix.suite.formats.go import GoReader
from bpfmatrix.suite.formats.gtest import GTestReader
from bpfmatrix.suite.formats.kselftest import KselftestReader
from bpfmatrix.suite.formats.libtest import LibtestReader
from bpfmatrix.suite.formats.nextest import NextestReader
from bpfmatrix.suite.formats.plain import AutomakeReader, PlainReader
from bpfmatrix.suite.formats.pytest import PytestReader
from bpfmatrix.suite.formats.tap import TapReader

__all__ = ["End", "Reader", "arguments", "reader"]

_READERS: dict[Format, type[Reader]] = {
    "go": GoReader,
    "tap": TapReader,
    "kselftest": KselftestReader,
    "automake": AutomakeReader,
    "libtest": LibtestReader,
    "nextest": NextestReader,
    "gtest": GTestReader,
    "catch2": Catch2Reader,
    "pytest": PytestReader,
    "bats": BatsReader,
    "plain": PlainReader,
    "auto": DetectedReader,
}


def arguments(format: Format, report: str) -> tuple[str, ...]:
    """Return the arguments that make an executable write what its reader reads.

    One of them has `report`, a path in the guest, if the executable can write a file.
    """
    return _READERS[format].arguments(report)


def reader(test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]) -> Reader:
    """Return the reader of an executable's output, which reports its tests as they end."""
    kind = _READERS[test.format]
    if kind is GoReader and not GoReader.available():
        kind = PlainReader
    return kind(test, argv, report)

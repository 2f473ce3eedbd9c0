"""Readers of what test runners print and write: one for each `format` of an executable."""

import importlib
from collections.abc import Callable, Sequence

from bpfmatrix.payload.model import Executable, Format
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.suite.formats.base import End, Reader

__all__ = ["End", "Reader", "arguments", "reader"]

# Module and class of each reader, which are imported when they are needed: a run needs one or two.
_READERS: dict[Format, tuple[str, str]] = {
    "go": ("go", "GoReader"),
    "tap": ("tap", "TapReader"),
    "kselftest": ("kselftest", "KselftestReader"),
    "automake": ("plain", "AutomakeReader"),
    "libtest": ("libtest", "LibtestReader"),
    "nextest": ("nextest", "NextestReader"),
    "gtest": ("gtest", "GTestReader"),
    "catch2": ("catch2", "Catch2Reader"),
    "pytest": ("pytest", "PytestReader"),
    "bats": ("bats", "BatsReader"),
    "plain": ("plain", "PlainReader"),
    "auto": ("detected", "DetectedReader"),
}


def _kind(format: Format) -> type[Reader]:
    module, name = _READERS[format]
    found: type[Reader] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    return found


def arguments(format: Format, report: str) -> tuple[str, ...]:
    """Return the arguments that make an executable write what its reader reads.

    One of them has `report`, a path in the guest, if the executable can write a file.
    """
    return _kind(format).arguments(report)


def reader(test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]) -> Reader:
    """Return the reader of an executable's output, which reports its tests as they end."""
    format = test.format
    if format == "go":
        from bpfmatrix.suite.formats.go import GoReader  # noqa: PLC0415 - see _READERS

        format = "go" if GoReader.available() else "plain"
    return _kind(format)(test, argv, report)

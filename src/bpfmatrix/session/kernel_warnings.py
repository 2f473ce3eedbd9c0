"""The warnings of a kernel while its guest works: collected, and judged by kernels.yaml."""

from typing import TYPE_CHECKING

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.host.text import counted
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.outcome import KernelWarning

if TYPE_CHECKING:
    from bpfmatrix.kernels.console_reports import ReportScanner

__all__ = ["WarningCollector"]

_UNSEEN = "WARNING: the kernel is tainted by a warning that its console does not show"
# A kernel that never stops complaining must not fill the results.
_KEPT = 100


class WarningCollector:
    """Collects what one kernel complains of (`kernel_warnings` in kernels.yaml)."""

    def __init__(self, kernel: KernelConfig, version: str) -> None:
        """`version` is the kernel's upstream release, such as `6.1.192`."""
        self._policy = kernel.kernel_warnings
        self._expected = Expectations.of(kernel.expect, version)
        self._scanner: ReportScanner | None = None
        self._found: list[KernelWarning] = []
        self._seen = 0

    def feed(self, console: bytes, during: str) -> None:
        """Take what the kernel printed while `during` ran."""
        if not console:
            return  # as in most runs
        if self._scanner is None:
            from bpfmatrix.kernels.console_reports import ReportScanner  # noqa: PLC0415

            self._scanner = ReportScanner()
        for report in self._scanner.feed(console, during):
            self._add(report.title, report.lines, report.during)

    def see_taint(self, warned: bool, during: str) -> None:
        """Take whether a warning tainted the kernel while `during` ran, which has ended now.

        If the console has no warning of that time, one is added: a process that is root can silence
        the console.
        """
        self._flush()
        if warned and len(self._found) == self._seen:
            self._add(_UNSEEN, (_UNSEEN,), during)
        self._seen = len(self._found)

    def close(self) -> tuple[KernelWarning, ...]:
        """Return all of them, in their order; none if they are to be ignored."""
        self._flush()
        return () if self._policy == "ignore" else tuple(self._found)

    def failure(self) -> str:
        """Return why these warnings make the run fail; empty if they do not."""
        unexpected = [one for one in self.close() if not one.expected]
        if self._policy != "fail" or not unexpected:
            return ""
        return f"{counted(len(unexpected), 'kernel warning')}, the first: {unexpected[0].title}"

    def _flush(self) -> None:
        for report in self._scanner.close() if self._scanner else ():
            self._add(report.title, report.lines, report.during)

    def _add(self, title: str, lines: tuple[str, ...], during: str) -> None:
        if len(self._found) < _KEPT:
            expected = self._expected.of_warning(title)
            self._found.append(KernelWarning(title, lines, during, expected))

"""Whoever wants to know of a run while it goes on."""

from typing import Protocol

from bpfmatrix.results.model import KernelRun, TestResult

__all__ = ["Listener", "Silent"]


class Listener(Protocol):
    """Whoever wants to know of a run while it goes on. `kernel` is an id of kernels.yaml."""

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """A step is done: its name, what it was about, and what came of it."""

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """A step goes on; `fraction` (0 to 1) is how much of it is done, where that is known."""

    def test(self, kernel: str, result: TestResult) -> None:
        """A test ended."""

    def finished(self, run: KernelRun) -> None:
        """A kernel's run ended, and its result is written."""


class Silent:
    """A listener that wants to know nothing."""

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Listener."""

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Listener."""

    def test(self, kernel: str, result: TestResult) -> None:
        """See Listener."""

    def finished(self, run: KernelRun) -> None:
        """See Listener."""

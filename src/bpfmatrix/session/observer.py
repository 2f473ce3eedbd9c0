"""The interface by which a session tells what goes on, to whoever shows it."""

from typing import Self

from bpfmatrix.host.progress import Progress
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.verification import ProgramResult, Verification

__all__ = ["Observer"]


class Observer:
    """Is told what goes on. This one ignores all of it; others override what they show.

    `kernel` is always an id of kernels.yaml, or empty for what concerns all kernels. Inside of
    `with observer:`, an observer may use the terminal for what goes on.
    """

    def __enter__(self) -> Self:
        """Begin to show what goes on."""
        return self

    def __exit__(self, *_: object) -> None:
        """Show no more of what goes on; single messages may still come."""

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """A step is done: its name, what it was about, and what came of it."""

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """A step goes on. `fraction` (0 to 1) is the part that is done, or None if not known."""

    def note(self, text: str) -> None:
        """Something that belongs to no step."""

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """A test, or an eBPF program, has its result."""

    def finished(self, run: KernelRun | Verification) -> None:
        """A kernel's run ended, and its result is written."""

    def progress(self, kernel: str, name: str) -> Progress:
        """Return what a lower package reports the progress of one step to."""

        def report(text: str, fraction: float | None = None) -> None:
            self.doing(kernel, name, text, fraction)

        return report

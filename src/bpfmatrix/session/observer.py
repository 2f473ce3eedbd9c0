"""The interface through which a session reports its progress and its results."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from bpfmatrix.host.progress import Progress
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.verification import ProgramResult, Verification

__all__ = ["Observer"]


class Observer:
    """Is told about the steps and results of sessions. This one ignores them all.

    In all methods, `kernel` is an id of kernels.yaml, or empty for a step that concerns all
    kernels. An observer may show live progress on the terminal while it is entered as a context.
    """

    def __enter__(self) -> Self:
        """Begin to show live progress."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the live progress. Steps, notes and results may still be reported."""

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """A step is done. `detail` says what it was about, `result` how it ended."""

    def executables(self, kernel: str, names: Sequence[str]) -> None:
        """Tests are about to run; `names` are the executables that have several of them."""

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """A step is going on. `fraction` (0 to 1) is the part that is done, None if not known."""

    def still_running(self, kernel: str, name: str, seconds: float) -> None:
        """Tests run, and for so long none has begun or ended. `name` has their names."""

    def note(self, text: str) -> None:
        """A message that belongs to no step."""

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """A test, or an eBPF program, has its result."""

    def finished(self, run: KernelRun | Verification) -> None:
        """The run of a kernel has ended, and its result is written."""

    def progress(self, kernel: str, name: str) -> Progress:
        """Return what a lower package reports the progress of one step to; see `announce`."""
        return _StepProgress(self, kernel, name)


@dataclass(frozen=True)
class _StepProgress:
    """A NotingProgress."""

    observer: Observer
    kernel: str
    name: str

    def __call__(self, text: str, fraction: float | None = None) -> None:
        self.observer.doing(self.kernel, self.name, text, fraction)

    def note(self, text: str) -> None:
        self.observer.note(text)

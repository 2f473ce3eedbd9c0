"""What differs from one guest session to another: the workload.

Running the tests, verifying objects, a command of `invoke shell`, a profile and a bisection's trial
are each a `Workload`. All else (preparing kernels, entering a guest, limits, cancellation, running
side by side) is `bpfmatrix.session.pipeline`, once for all of them.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.payload.model import Payload
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared

__all__ = ["MatrixWorkload", "Work", "Workload"]

Result = TypeVar("Result")


class Work(ABC, Generic[Result]):
    """A workload's part in the session of one kernel."""

    limit_seconds: float | None = None
    """The limit of the whole session, from the start of QEMU; None for no limit."""
    needs_guest = True
    """Whether a guest is needed at all; without one, `result` is asked for at once."""

    def __init__(self, folder: Path) -> None:
        self.console = folder / "console.log"
        """Where the kernel's console is written."""

    @abstractmethod
    async def attend(self, entered: EnteredGuest) -> None:
        """Give the guest its job, and take in its events until the job is done."""

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """Take note that the session ended before the job was done."""

    def close(self) -> None:
        """Release what `attend` opened, however the session ended."""

    @abstractmethod
    def result(self, session: GuestSession) -> Result:
        """Return what came of it, and write it where this workload's results are kept.

        It is called exactly once, also after `fail`.
        """


class Workload(ABC, Generic[Result]):
    """What is to be done in the guests of one or several kernels."""

    def __init__(self, options: SessionOptions) -> None:
        self.options = options

    @abstractmethod
    def payload(self, arch: str, observer: Observer) -> Payload:
        """Build what the guests of an architecture are given; BpfmatrixError says what failed."""

    @abstractmethod
    def work(self, prepared: Prepared, observer: Observer) -> Work[Result]:
        """Return the part in one kernel's session. It touches no file before it is attended."""

    def begin(self, kernel: KernelConfig) -> None:
        """Clear what an earlier session of this kernel left behind: the session begins now."""


class MatrixWorkload(Workload[Result]):
    """A workload that can run on many kernels, with a result also for one that can't be booted."""

    @abstractmethod
    def unprepared(self, kernel: KernelConfig, reason: str, observer: Observer) -> Result:
        """Return, and write, the result of a kernel that could not even be booted."""

    def recall(self, prepared: Prepared, observer: Observer) -> Result | None:
        """Return a result that is still true, so that nothing needs to run; else None."""
        return None

    def remember(self, prepared: Prepared, result: Result) -> None:
        """Keep a result for `recall`."""

"""What differs from one guest session to another: the workload.

Running the tests, verifying objects, a command of `invoke shell`, a profile and a trial of a
bisection are each a `Workload`. Everything else (preparing kernels, entering a guest, limits,
cancellation, running side by side) is in `bpfmatrix.session.pipeline`, once for all of them.
"""

import contextlib
import dataclasses
import errno
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.faults import explained, naming
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.payload.model import Payload
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import GuestRun, Outcome
from bpfmatrix.results.verification import Verification
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm.limits import Limit

__all__ = ["MatrixWorkload", "Work", "Workload", "asked_for", "writing"]

# Of a boot: 20 to 30 KB were seen, with Debian's kernels.
_CONSOLE_BYTES = 64 << 10

Result = TypeVar("Result")
Run = TypeVar("Run", KernelRun, Verification)


class Work(ABC, Generic[Result]):
    """A workload's part in the session of one kernel."""

    limit: Limit | None = None
    """The limit of the whole session, from the start of QEMU; None for no limit."""
    needs_guest = True
    """Whether a guest is needed at all. If not, the pipeline only asks for the result."""

    def __init__(self, folder: Path) -> None:
        self.console = folder / "console.log"
        """The file that the kernel's console is written to."""

    guests_at_once = 1
    """How many guests can share the work. Each is given to a call of `attend` of its own, as soon
    as this host has room for another machine and `needs_another_guest` still says so."""

    @property
    def needs_another_guest(self) -> bool:
        """Whether `attend` is to be called again, with a new guest."""
        return False

    @abstractmethod
    async def attend(self, entered: EnteredGuest) -> None:
        """Give the guest its job, and take in its events until the job is done."""

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """Record that the session ended before the job was done."""

    def close(self) -> None:
        """Release what `attend` opened, however the session ended."""

    @abstractmethod
    def result(self, session: GuestSession) -> Result:
        """Return the result. It is called exactly once, also after `fail`.

        A workload without a result for a session that failed raises BpfmatrixError instead.
        """


class Workload(ABC, Generic[Result]):
    """The work to be done in the guests of one or several kernels."""

    def __init__(self, options: SessionOptions) -> None:
        self.options = options

    @abstractmethod
    def payload(self, arch: str, observer: Observer) -> Payload:
        """Build the payload for guests of an architecture; BpfmatrixError if that fails."""

    @abstractmethod
    def work(self, prepared: Prepared, observer: Observer) -> Work[Result]:
        """Return the part in one kernel's session. It touches no file before the session begins.

        BpfmatrixError if there is nothing to do on this kernel.
        """

    @contextlib.contextmanager
    def asked(self, kernels: Sequence[KernelConfig]) -> Iterator[None]:
        """Hold this while these kernels are run, from before anything can fail."""
        yield

    def begin(self, kernel: KernelConfig) -> None:
        """Remove what an earlier session of this kernel left behind; a session begins now."""

    def keep(self, result: Result, observer: Observer) -> None:
        """Write a result to where this workload's results are kept, and report it."""


class MatrixWorkload(Workload[Run]):
    """A workload for many kernels, which has a result even for a kernel that can't be booted.

    A kernel's result is written to `<kernel>.json` in `folder`, and its logs are in `<kernel>/`.
    """

    def __init__(self, options: SessionOptions, folder: Path) -> None:
        super().__init__(options)
        self.folder = folder

    def share_host(self, sessions: int) -> None:
        """Take note of how many sessions share this host: those of this workload and of others."""

    @abstractmethod
    def unprepared(self, kernel: KernelConfig, reason: str) -> Run:
        """Return the result of a kernel that could not be prepared."""

    def recall(self, prepared: Prepared) -> Run | None:
        """Return an earlier result that still holds, so that nothing needs to run; else None."""
        return None

    def remember(self, prepared: Prepared, result: Run) -> None:
        """Keep a result for `recall`."""

    @contextlib.contextmanager
    def asked(self, kernels: Sequence[KernelConfig]) -> Iterator[None]:
        """See Workload, and `asked_for`."""
        with asked_for(self.folder, kernels, self.unprepared):
            yield

    def begin(self, kernel: KernelConfig) -> None:
        """See Workload. BpfmatrixError if the folder can't be written."""
        logs = self.folder / kernel.id
        shutil.rmtree(logs, ignore_errors=True)
        with writing(self.folder):
            (self.folder / f"{kernel.id}.json").unlink(missing_ok=True)
            logs.mkdir(parents=True, exist_ok=True)
            _require_room(logs)

    def keep(self, result: Run, observer: Observer) -> None:
        """See Workload. BpfmatrixError if the result can't be written."""
        path = self.folder / f"{result.kernel}.json"
        with writing(path):
            files.write(result, path)
        observer.finished(result)


def _require_room(logs: Path) -> None:
    """OSError if there is no room for the kernel's console.

    The console's reader drops what it can't write. So a full disk would go unnoticed, and a
    template would be made without its console.
    """
    probe = logs / ".room"
    try:
        with naming(logs / "console.log"):
            probe.write_bytes(bytes(_CONSOLE_BYTES))
    finally:
        probe.unlink(missing_ok=True)


@contextlib.contextmanager
def asked_for(
    folder: Path,
    kernels: Sequence[KernelConfig],
    unprepared: Callable[[KernelConfig, str], GuestRun],
) -> Iterator[None]:
    """Set aside the results of earlier runs of these kernels, in `folder`, while they run again.

    So an earlier result is never taken for that of a run that could not even begin. If the run is
    ended by an exception, each kernel without a result gets one that names the exception. If that
    is Ctrl-C, what was set aside stays where it is: see `files.set_aside`. If there are no tests to
    run, all is put back as it was.
    BpfmatrixError if the folder can't be written.
    """
    paths = {kernel.id: folder / f"{kernel.id}.json" for kernel in kernels}
    with writing(folder):
        for path in paths.values():
            files.set_aside(path)
    try:
        yield
    except BaseException as error:
        has_run = any(path.exists() for path in paths.values())
        if isinstance(error, NoTestsError) and not has_run:
            for path in paths.values():
                with contextlib.suppress(OSError):
                    files.put_back(path)
            raise
        for kernel in kernels:
            if not paths[kernel.id].exists():
                # If it can't be written either, such as on a full disk, there is no result.
                with contextlib.suppress(OSError):
                    files.write(_of_exception(unprepared, kernel, error), paths[kernel.id])
        raise
    finally:
        for path in paths.values():
            if not files.is_interrupted_early(path):
                shutil.rmtree(files.earlier_folder(path), ignore_errors=True)


def _of_exception(
    unprepared: Callable[[KernelConfig, str], GuestRun], kernel: KernelConfig, error: BaseException
) -> GuestRun:
    if isinstance(error, KeyboardInterrupt):
        result = unprepared(kernel, "interrupted before it began")
        return dataclasses.replace(result, outcome=Outcome.INTERRUPTED)
    known = explained(error)
    return unprepared(kernel, str(known) if known else f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError into a BpfmatrixError that names the path."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = error.filename or str(path), None
        if error.errno in (errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG):
            raise explained(error) or error from error
        raise BpfmatrixError(
            f"{path} can't be written: {error.strerror or error}",
            "Make room on its disk, or make its folder writable.",
        ) from error

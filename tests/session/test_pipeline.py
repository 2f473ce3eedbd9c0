"""The pipeline around a guest: what is kept of a session, however it ends."""

import asyncio
import dataclasses
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.payload.model import Payload
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Verification
from bpfmatrix.session import pipeline
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession, failure_of
from bpfmatrix.session.host_files import HostFilesPlan
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.workload import MatrixWorkload, Work
from bpfmatrix.vm.accelerator import Accelerator
from bpfmatrix.vm.protocol import GuestError, ProtocolError


class Finished(Observer):
    """Records the results that are reported."""

    def __init__(self) -> None:
        self.runs: list[KernelRun | Verification] = []

    def finished(self, run: KernelRun | Verification) -> None:
        """See Observer."""
        self.runs.append(run)


class Waiting(Work[KernelRun]):
    """Attends its guest until it is cancelled, or fails with an error."""

    def __init__(self, folder: Path, error: Exception | None = None) -> None:
        super().__init__(folder)
        self.needs_guest = True
        self.attended = asyncio.Event()
        self.closed = False
        self._error = error
        self._outcome, self._reason = Outcome.PASSED, ""

    async def attend(self, entered: EnteredGuest) -> None:
        """See Work."""
        self.attended.set()
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """See Work."""
        self._outcome, self._reason = outcome, reason

    def close(self) -> None:
        """See Work."""
        self.closed = True

    def result(self, session: GuestSession) -> KernelRun:
        """See Work."""
        return KernelRun("6.1", self._outcome, self._reason)


class WaitingWorkload(MatrixWorkload[KernelRun]):
    """A workload whose works are `Waiting`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(SessionOptions(), folder)

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See Workload."""
        return Payload(())

    def work(self, prepared: Prepared, observer: Observer) -> Waiting:
        """See Workload."""
        work = Waiting(self.folder)
        work.needs_guest = False
        return work

    def unprepared(self, kernel: KernelConfig, reason: str) -> KernelRun:
        """See MatrixWorkload."""
        return KernelRun(kernel.id, Outcome.ERROR, reason)


@pytest.fixture
def prepared(library_project: Project) -> Prepared:
    image = KernelImage(
        arch="x86_64",
        release="6.1.0-56-cloud-amd64",
        version="6.1.192",
        digest="sha256:00",
        boot=Path("/kernels/6.1/vmlinux"),
        pvh=True,
        vmlinuz=Path("/kernels/6.1/vmlinuz"),
        modules=None,
        provenance=Provenance("apt bookworm-security", ()),
    )
    return Prepared(
        library_project.config.kernel("6.1"),
        image,
        Accelerator("tcg"),
        cast(Any, SimpleNamespace(memory_bytes=512 << 20)),
        payload=Payload(()),
        payload_id="0123",
        env={},
        host_files=HostFilesPlan(),
    )


def guest(folder: Path) -> EnteredGuest:
    """A guest of which only the kernel's release is known."""
    return EnteredGuest(cast(Any, SimpleNamespace(release="6.1.0")), "cold", folder / "console")


def test_a_cancelled_session_is_kept_as_interrupted(
    library_project: Project, prepared: Prepared, tmp_path: Path
) -> None:
    workload, observer, work = WaitingWorkload(tmp_path), Finished(), Waiting(tmp_path)

    async def cancelled() -> None:
        session = asyncio.create_task(
            pipeline.run_prepared(
                *(library_project, prepared, workload, observer),
                work=work,
                entered=guest(tmp_path),
            )
        )
        await work.attended.wait()
        session.cancel()
        with pytest.raises(asyncio.CancelledError):
            await session

    asyncio.run(cancelled())
    [run] = observer.runs
    assert (run.outcome, run.reason) == (Outcome.INTERRUPTED, "interrupted")
    assert files.read_run(tmp_path / "6.1.json") == run
    assert work.closed


def test_a_kernel_that_can_not_be_prepared_has_a_result_and_the_others_go_on(
    library_project: Project, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(project: Project, kernel: KernelConfig, *_: object) -> Prepared:
        if kernel.id != "6.1":
            raise BpfmatrixError("no such kernel", "Name another.")
        return prepared

    monkeypatch.setattr(pipeline, "prepare", prepare)
    (tmp_path / "5.10").mkdir()
    (tmp_path / "5.10/old.log").touch()
    observer = Finished()
    runs = pipeline.run_side_by_side(
        library_project, ["6.1", "5.10", "6.1"], WaitingWorkload(tmp_path), observer
    )
    assert [(run.kernel, run.outcome) for run in runs] == [
        ("6.1", Outcome.PASSED),
        ("5.10", Outcome.ERROR),
    ]
    assert runs[1].reason == "no such kernel\nName another."
    assert files.read_run(tmp_path / "5.10.json") == runs[1]
    assert not (tmp_path / "5.10/old.log").exists()
    assert sorted(run.kernel for run in observer.runs) == ["5.10", "6.1"]


def test_a_result_that_can_not_be_written_is_one_error_with_its_path(
    library_project: Project, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Obstructed(WaitingWorkload):
        def begin(self, kernel: KernelConfig) -> None:
            (tmp_path / "6.1.json").mkdir()  # a folder in place of the file

    monkeypatch.setattr(pipeline, "prepare", lambda *_: prepared)
    with pytest.raises(BpfmatrixError, match=r"6\.1\.json can't be written: Is a directory"):
        pipeline.run_side_by_side(library_project, ["6.1"], Obstructed(tmp_path), Observer())


def test_logs_that_can_not_be_written_are_one_error_with_their_folder(
    library_project: Project, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "prepare", lambda *_: prepared)
    (tmp_path / "results").touch()
    workload = WaitingWorkload(tmp_path / "results")
    with pytest.raises(BpfmatrixError, match="results can't be written: Not a directory"):
        pipeline.run_side_by_side(library_project, ["6.1"], workload, Observer())


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BpfmatrixError("no QEMU"), (Outcome.ERROR, "no QEMU")),
        (GuestError("no payload"), (Outcome.ERROR, "no payload")),
        (ProtocolError("nonsense"), (Outcome.LOST, "nonsense")),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            (Outcome.ERROR, "a log: No space left on device"),
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a.log"),
            (Outcome.ERROR, "a.log: Permission denied"),
        ),
    ],
)
def test_what_ends_a_session_early(error: Exception, expected: tuple[Outcome, str]) -> None:
    async def work() -> None:
        raise error

    assert asyncio.run(failure_of(work(), None)) == expected


def test_the_limit_of_a_run() -> None:
    async def long() -> None:
        await asyncio.Event().wait()

    failure = asyncio.run(failure_of(long(), 0.01))
    assert failure == (Outcome.TIMEOUT, "the run took over 0.01 s (timeout.run)")


@pytest.mark.parametrize("error", [TimeoutError(), BrokenPipeError(errno.EPIPE, "Broken pipe")])
def test_a_bug_is_not_taken_for_a_failure(error: Exception) -> None:
    async def work() -> None:
        raise error

    with pytest.raises(type(error)):
        asyncio.run(failure_of(work(), 60.0))


def test_a_work_that_needs_no_guest_is_not_attended(
    library_project: Project, prepared: Prepared, tmp_path: Path
) -> None:
    workload, work = WaitingWorkload(tmp_path), Waiting(tmp_path)
    work.needs_guest = False
    session = pipeline.run_prepared(library_project, prepared, workload, Observer(), work=work)
    assert asyncio.run(session).outcome is Outcome.PASSED
    assert work.closed
    assert not work.attended.is_set()


def test_an_error_of_ours_passes_and_the_work_is_closed(
    library_project: Project, prepared: Prepared, tmp_path: Path
) -> None:
    workload, work = WaitingWorkload(tmp_path), Waiting(tmp_path, ZeroDivisionError())
    session = pipeline.run_prepared(
        *(library_project, prepared, workload, Observer()), work=work, entered=guest(tmp_path)
    )
    with pytest.raises(ZeroDivisionError):
        asyncio.run(session)
    assert work.closed


def test_an_unknown_kernel_is_refused_before_anything_is_built(
    library_project: Project, tmp_path: Path
) -> None:
    class Built(WaitingWorkload):
        def payload(self, arch: str, observer: Observer) -> Payload:
            raise AssertionError("a payload was built")

    with pytest.raises(UsageError, match=r"no kernel '6\.2'"):
        pipeline.run_side_by_side(library_project, ["6.1", "6.2"], Built(tmp_path), Observer())


def test_a_single_kernel_that_can_not_be_prepared_is_an_error(
    library_project: Project, tmp_path: Path
) -> None:
    kernels = {"6.1": {"source": {"directory": "missing"}}}
    config = Config.model_validate({"kernels": kernels}).at(library_project.root)
    project = dataclasses.replace(library_project, config=config)
    with pytest.raises(BpfmatrixError, match="missing"):
        pipeline.run_one(project, "6.1", WaitingWorkload(tmp_path / "results"), Observer())
    assert not (tmp_path / "results").exists()

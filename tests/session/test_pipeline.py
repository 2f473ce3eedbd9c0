"""The ends of a session, the result of its work, and kernels that can't be prepared.

No QEMU is started here: sessions enter a guest of which only the release is known. Sessions of real
guests are in tests/integration.
"""

import asyncio
import contextlib
import dataclasses
import errno
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, BuildError, UsageError
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.payload.model import Payload
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Verification
from bpfmatrix.session import parallelism, pipeline, preparation
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.workload import MatrixWorkload, Work, Workload
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.machine import Machine, MachineEndedError
from bpfmatrix.vm.protocol import GuestError, ProtocolError

# The calls of a work, in order. They are also its result.
Calls = list[tuple[str, ...]]


class RecordedWork(Work[Calls]):
    """A work that records its calls. While it is attended, it calls `job`."""

    def __init__(self, folder: Path, job: Callable[[], Awaitable[object]] | None = None) -> None:
        super().__init__(folder)
        self.calls: Calls = []
        self._job = job

    async def attend(self, entered: EnteredGuest) -> None:
        self.calls.append(("attend", entered.machine.release))
        if self._job:
            await self._job()

    async def fail(self, outcome: Outcome, reason: str) -> None:
        self.calls.append(("fail", outcome, reason))

    def close(self) -> None:
        self.calls.append(("close",))

    def result(self, session: GuestSession) -> Calls:
        self.calls.append(("result",))
        return self.calls


class RecordedWorkload(Workload[Calls]):
    """A workload with one work, which also records the calls of the workload."""

    def __init__(self, work: RecordedWork) -> None:
        super().__init__(SessionOptions())
        self._work = work

    def payload(self, arch: str, observer: Observer) -> Payload:
        return Payload(())

    def work(self, prepared: Prepared, observer: Observer) -> RecordedWork:
        return self._work

    def begin(self, kernel: KernelConfig) -> None:
        self._work.calls.append(("begin", kernel.id))

    def keep(self, result: Calls, observer: Observer) -> None:
        self._work.calls.append(("keep",))


def prepared(project: Project) -> Prepared:
    """A prepared kernel, as far as a session that does not start a machine looks at it."""
    found: Any = SimpleNamespace(kernel=project.config.kernel("6.1"), accelerator="tcg")
    return cast(Prepared, found)


GUEST = cast(Machine, SimpleNamespace(release="6.1.192", dump_failure=""))


async def session(project: Project, work: RecordedWork) -> Calls:
    entered = EnteredGuest(GUEST, "cold", work.console)
    return await pipeline.run_prepared(
        project, prepared(project), RecordedWorkload(work), Observer(), entered=entered
    )


def test_a_session_ends_with_the_result_of_its_work(
    library_project: Project, tmp_path: Path
) -> None:
    calls = asyncio.run(session(library_project, RecordedWork(tmp_path)))
    assert calls == [
        ("begin", "6.1"),
        ("attend", "6.1.192"),
        ("close",),
        ("result",),
        ("keep",),
    ]


class SharedWork(RecordedWork):
    """A work of numbered parts, of which each guest takes one."""

    def __init__(self, folder: Path, parts: int, take: Callable[[int], Awaitable[object]]) -> None:
        super().__init__(folder)
        self.guests_at_once = 2
        self._left = list(range(1, parts + 1))
        self._take = take

    @property
    def needs_another_guest(self) -> bool:
        return bool(self._left)

    async def attend(self, entered: EnteredGuest) -> None:
        part = self._left.pop(0)
        await self._take(part)
        self.calls.append(("done", str(part)))


async def shared_session(
    project: Project, work: RecordedWork, places: int, monkeypatch: pytest.MonkeyPatch
) -> Calls:
    @contextlib.asynccontextmanager
    async def enter(*_: object) -> AsyncIterator[EnteredGuest]:
        yield EnteredGuest(GUEST, "warm", work.console)

    monkeypatch.setattr("bpfmatrix.session.guest_session.enter", enter)
    return await pipeline.run_prepared(
        project,
        prepared(project),
        RecordedWorkload(work),
        Observer(),
        machines=asyncio.Semaphore(places),
    )


def test_two_guests_share_the_work(
    library_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_began = asyncio.Event()

    async def take(part: int) -> None:
        # The first part ends only after another guest took the second one.
        await (asyncio.wait_for(second_began.wait(), 10) if part == 1 else asyncio.sleep(0))
        second_began.set()

    work = SharedWork(tmp_path, 3, take)
    calls = asyncio.run(shared_session(library_project, work, 1, monkeypatch))
    assert sorted(call for call in calls if call[0] == "done") == [
        ("done", "1"),
        ("done", "2"),
        ("done", "3"),
    ]


def test_without_room_for_another_machine_one_guest_after_another_does_the_work(
    library_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: set[int] = set()

    async def take(part: int) -> None:
        at_work.add(part)
        await asyncio.sleep(0)
        assert at_work == {part}
        at_work.remove(part)

    work = SharedWork(tmp_path, 3, take)
    calls = asyncio.run(shared_session(library_project, work, 0, monkeypatch))
    assert [call[1] for call in calls if call[0] == "done"] == ["1", "2", "3"]


def test_the_end_of_one_guest_ends_those_that_share_its_work(
    library_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second_began = asyncio.Event()

    async def take(part: int) -> None:
        if part == 1:
            await second_began.wait()
            raise MachineEndedError("panic", "sysrq triggered crash")
        second_began.set()
        await asyncio.Event().wait()

    work = SharedWork(tmp_path, 2, take)
    calls = asyncio.run(shared_session(library_project, work, 1, monkeypatch))
    assert ("fail", Outcome.PANIC, "sysrq triggered crash") in calls
    assert not [call for call in calls if call[0] == "done"]


def test_a_work_that_needs_no_guest_is_not_attended(
    library_project: Project, tmp_path: Path
) -> None:
    work = RecordedWork(tmp_path)
    work.needs_guest = False
    # Without a guest that is entered already: none is started.
    calls = asyncio.run(
        pipeline.run_prepared(
            library_project, prepared(library_project), RecordedWorkload(work), Observer()
        )
    )
    assert calls == [("begin", "6.1"), ("close",), ("result",), ("keep",)]


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (MachineEndedError("panic", "it broke"), Outcome.PANIC, "it broke"),
        (MachineEndedError("lost", "QEMU died"), Outcome.LOST, "QEMU died"),
        (MachineEndedError("timeout", "not up"), Outcome.TIMEOUT, "not up"),
        (GuestError("no such disk"), Outcome.ERROR, "no such disk"),
        (ProtocolError("what?"), Outcome.LOST, "what?"),
        (BpfmatrixError("no QEMU"), Outcome.ERROR, "no QEMU"),
        # A log on a full disk, and one that may not be written.
        (
            OSError(errno.ENOSPC, "No space left", "x.log"),
            Outcome.ERROR,
            "x.log can't be written: No space left",
        ),
        (
            PermissionError(errno.EACCES, "Denied", "x.log"),
            Outcome.ERROR,
            "x.log can't be used: Denied",
        ),
    ],
)
def test_the_work_gets_the_outcome_and_the_reason_of_an_early_end(
    library_project: Project, tmp_path: Path, error: Exception, outcome: Outcome, reason: str
) -> None:
    async def job() -> None:
        raise error

    calls = asyncio.run(session(library_project, RecordedWork(tmp_path, job)))
    said = [(*call[:2], call[2].splitlines()[0]) if call[0] == "fail" else call for call in calls]
    assert said[2:] == [("fail", outcome, reason), ("close",), ("result",), ("keep",)]


def test_a_session_over_its_limit_is_a_timeout(library_project: Project, tmp_path: Path) -> None:
    work = RecordedWork(tmp_path, asyncio.Event().wait)  # which nobody sets
    work.limit = Limit(0.01, "timeout.run")
    calls = asyncio.run(session(library_project, work))
    reason = "the run took over 0.01 s (timeout.run)"
    assert calls[2:] == [("fail", Outcome.TIMEOUT, reason), ("close",), ("result",), ("keep",)]


def test_a_cancelled_session_has_a_result_and_stays_cancelled(
    library_project: Project, tmp_path: Path
) -> None:
    async def cancelled() -> Calls:
        at_work = asyncio.Event()

        async def job() -> None:
            at_work.set()
            await asyncio.Event().wait()

        work = RecordedWork(tmp_path, job)
        task = asyncio.create_task(session(library_project, work))
        await at_work.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return work.calls

    calls = asyncio.run(cancelled())
    assert calls[2:] == [
        ("fail", Outcome.INTERRUPTED, "interrupted"),
        ("result",),
        ("keep",),
        ("close",),
    ]


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), TimeoutError(), BrokenPipeError(errno.EPIPE, "Broken pipe")]
)
def test_any_other_exception_is_raised_after_the_work_is_closed(
    library_project: Project, tmp_path: Path, error: Exception
) -> None:
    async def job() -> None:
        raise error

    work = RecordedWork(tmp_path, job)
    work.limit = Limit(60.0, "timeout.run")
    with pytest.raises(type(error)):
        asyncio.run(session(library_project, work))
    assert work.calls[2:] == [("close",)]


class Unprepared(MatrixWorkload[KernelRun]):
    """A workload whose kernels can't be provided."""

    def __init__(self, folder: Path) -> None:
        super().__init__(SessionOptions(), folder)
        self.built: list[str] = []

    def payload(self, arch: str, observer: Observer) -> Payload:
        self.built.append(arch)
        return Payload(())

    def work(self, prepared: Prepared, observer: Observer) -> Work[KernelRun]:
        raise AssertionError(f"{prepared.kernel.id} is not there, but was prepared")

    def unprepared(self, kernel: KernelConfig, reason: str) -> KernelRun:
        return KernelRun(kernel.id, Outcome.ERROR, reason)


class Finished(Observer):
    """Records the results that are reported."""

    def __init__(self) -> None:
        self.runs: list[KernelRun | Verification] = []

    def finished(self, run: KernelRun | Verification) -> None:
        self.runs.append(run)


@pytest.fixture
def without_kernels(library_project: Project) -> Project:
    """A project whose kernels lie in folders that do not exist."""
    kernels: dict[str, Any] = {
        id: {"source": {"directory": f"missing-{id}"}} for id in ("5.10", "6.1", "6.12")
    }
    kernels["6.1-arm64"] = {"arch": "aarch64", **kernels["6.1"]}
    config = Config.model_validate({"kernels": kernels}).at(library_project.root)
    return dataclasses.replace(library_project, config=config)


def test_each_kernel_that_can_not_be_provided_has_its_result(
    without_kernels: Project, tmp_path: Path
) -> None:
    ids = ["6.12", "5.10", "6.12", "6.1-arm64", "6.1"]
    workload, observer = Unprepared(tmp_path), Finished()
    (tmp_path / "5.10").mkdir()
    (tmp_path / "5.10/old.log").touch()
    results = pipeline.run_side_by_side(without_kernels, ids, workload, observer)
    assert [result.kernel for result in results] == ["6.12", "5.10", "6.1-arm64", "6.1"]
    assert "missing-5.10" in results[1].reason
    assert files.read_run(tmp_path / "5.10.json") == results[1]
    assert not (tmp_path / "5.10/old.log").exists()
    assert observer.runs == results
    # Once for each architecture.
    assert workload.built == ["x86_64", "aarch64"]


def test_several_workloads_have_a_result_for_each_kernel(
    without_kernels: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for = []
    provide = preparation.prepare

    def prepare(project: Project, kernel: KernelConfig, *rest: Any) -> Prepared:
        looked_for.append(kernel.id)
        return provide(project, kernel, *rest)

    monkeypatch.setattr(pipeline, "prepare", prepare)
    parts = [pipeline.Part(Unprepared(tmp_path / name), Finished()) for name in ("one", "two")]
    found = pipeline.run_asked(without_kernels, ["6.1", "5.10"], parts)
    for part, results in zip(parts, found, strict=True):
        assert [result.kernel for result in results] == ["6.1", "5.10"]
        assert cast(Finished, part.observer).runs == results
        assert files.read_run(part.workload.folder / "5.10.json") == results[1]
    # A kernel that is not there for one is not there for the other.
    assert looked_for == ["6.1", "5.10"]


class Unbuildable(Unprepared):
    """A workload whose payload can't be built."""

    def __init__(self, folder: Path, error: BaseException) -> None:
        super().__init__(folder)
        self._error = error

    def payload(self, arch: str, observer: Observer) -> Payload:
        assert not list(self.folder.glob("*.json")), "there is an earlier result"
        raise self._error


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (BuildError("go failed", "Mend it."), Outcome.ERROR, "go failed\nMend it."),
        (OSError(errno.EROFS, "Read-only", "/x"), Outcome.ERROR, "/x can't be used: Read-only"),
        (subprocess.CalledProcessError(1, ["tool"], "", "why"), Outcome.ERROR, "tool failed: why"),
        (ZeroDivisionError("a bug"), Outcome.ERROR, "ZeroDivisionError: a bug"),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_run_that_can_not_begin_has_no_earlier_result(
    without_kernels: Project,
    tmp_path: Path,
    error: BaseException,
    outcome: Outcome,
    reason: str,
    several: bool,
) -> None:
    ids = ["5.10", "6.1"] if several else ["6.1"]
    for id in ids:
        files.write(KernelRun(id, Outcome.PASSED), tmp_path / f"{id}.json")
        (tmp_path / id).mkdir()
        (tmp_path / id / "a.log").touch()
    workload = Unbuildable(tmp_path, error)
    run, which = (pipeline.run_side_by_side, ids) if several else (pipeline.run_one, "6.1")
    with pytest.raises(type(error)):
        cast(Any, run)(without_kernels, which, workload, Observer())
    for id in ids:
        result = files.read_run(tmp_path / f"{id}.json")
        assert result.outcome is outcome
        assert result.reason.startswith(reason)
    # Neither its logs, nor what was set aside.
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        f"{id}.json" for id in ids
    }


def passed_run(id: str) -> KernelRun:
    return KernelRun(id, Outcome.PASSED, tests=(TestResult("a", "TestA", Outcome.PASSED),))


def of_earlier_run(folder: Path, ids: Sequence[str]) -> None:
    """Make the results of a run that passed, each with a log."""
    for id in ids:
        files.write(passed_run(id), folder / f"{id}.json")
        (folder / id).mkdir()
        (folder / id / "a.log").touch()


@pytest.mark.parametrize("ids", [["6.1"], ["5.10", "6.1"]])
def test_a_mistake_before_anything_runs_leaves_the_last_results(
    without_kernels: Project, tmp_path: Path, ids: list[str]
) -> None:
    workload = Unbuildable(tmp_path, NoTestsError())
    with pytest.raises(NoTestsError):
        pipeline.run_side_by_side(without_kernels, ids, workload, Observer())
    assert not list(tmp_path.glob("[56]*"))
    of_earlier_run(tmp_path, ids)
    with pytest.raises(NoTestsError):
        pipeline.run_side_by_side(without_kernels, ids, workload, Observer())
    for id in ids:
        assert files.read_run(tmp_path / f"{id}.json") == passed_run(id)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == {
        name for id in ids for name in (f"{id}.json", f"{id}/a.log")
    }


def test_after_ctrl_c_the_last_result_of_a_kernel_that_had_not_begun_is_kept_aside(
    without_kernels: Project, tmp_path: Path
) -> None:
    of_earlier_run(tmp_path, ["6.1"])
    path = tmp_path / "6.1.json"
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pipeline.run_side_by_side(
                without_kernels, ["6.1"], Unbuildable(tmp_path, KeyboardInterrupt()), Observer()
            )
        # In a report, it is not passed: it did not run when it was asked for.
        found = files.read_run(path)
        assert (found.outcome, found.reason) == (Outcome.INTERRUPTED, "interrupted before it began")
        assert files.read_earlier(path) == passed_run("6.1")
    with pytest.raises(BuildError):
        pipeline.run_side_by_side(
            without_kernels, ["6.1"], Unbuildable(tmp_path, BuildError("no")), Observer()
        )
    assert files.read_earlier(path).outcome is Outcome.ERROR


def test_one_kernel_whose_preparation_meets_a_fault_of_the_host_does_not_end_the_others(
    without_kernels: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(project: Project, kernel: KernelConfig, *_: object) -> Prepared:
        raise OSError(errno.ENAMETOOLONG, "too long", f"/x/{kernel.id}")

    monkeypatch.setattr(pipeline, "prepare", fail)
    workload = Unprepared(tmp_path)
    results = pipeline.run_side_by_side(without_kernels, ["5.10", "6.1"], workload, Observer())
    assert [result.outcome for result in results] == [Outcome.ERROR] * 2
    assert "/x/6.1 is longer than a file system allows" in results[1].reason


def test_an_unknown_kernel_is_refused_before_anything_is_built(
    without_kernels: Project, tmp_path: Path
) -> None:
    workload = Unprepared(tmp_path)
    with pytest.raises(UsageError, match=r"no kernel '6\.2'"):
        pipeline.run_side_by_side(without_kernels, ["6.1", "6.2"], workload, Observer())
    assert workload.built == []


def test_a_single_kernel_that_can_not_be_provided_is_an_error(
    without_kernels: Project, tmp_path: Path
) -> None:
    workload = Unprepared(tmp_path)
    with pytest.raises(BpfmatrixError, match=r"missing-6\.1"):
        pipeline.run_one(without_kernels, "6.1", workload, Observer())
    result = files.read_run(tmp_path / "6.1.json")
    assert (result.outcome, "missing-6.1" in result.reason) == (Outcome.ERROR, True)


def test_logs_that_can_not_be_written_are_one_error_with_their_folder(
    without_kernels: Project, tmp_path: Path
) -> None:
    (tmp_path / "results").touch()
    workload = Unprepared(tmp_path / "results")
    with pytest.raises(BpfmatrixError, match="results can't be written: File exists"):
        pipeline.run_side_by_side(without_kernels, ["6.1"], workload, Observer())


class Obstructed(MatrixWorkload[KernelRun]):
    """A workload without a guest, with a folder in place of its result's file."""

    def payload(self, arch: str, observer: Observer) -> Payload:
        return Payload(())

    def begin(self, kernel: KernelConfig) -> None:
        (self.folder / f"{kernel.id}.json").mkdir()

    def work(self, prepared: Prepared, observer: Observer) -> Work[KernelRun]:
        class Passes(Work[KernelRun]):
            needs_guest = False

            async def attend(self, entered: EnteredGuest) -> None:
                raise AssertionError

            def result(self, session: GuestSession) -> KernelRun:
                return KernelRun(prepared.kernel.id, Outcome.PASSED)

        return Passes(self.folder)

    def unprepared(self, kernel: KernelConfig, reason: str) -> KernelRun:
        raise AssertionError(reason)


def test_a_result_that_can_not_be_written_is_one_error_with_its_path(
    library_project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "prepare", lambda project, *_: prepared(project))
    monkeypatch.setattr(parallelism, "machines_at_once", lambda prepared: 1)
    workload = Obstructed(SessionOptions(), tmp_path)
    # One error, and not the group of errors of the kernels that ran side by side.
    with pytest.raises(BpfmatrixError, match=r"6\.1\.json can't be written: Is a directory"):
        pipeline.run_side_by_side(library_project, ["6.1"], workload, Observer())

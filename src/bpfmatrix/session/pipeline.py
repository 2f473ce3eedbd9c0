"""The one way from kernels' ids to results: prepare, enter a guest, give it its job, end, write.

`run_side_by_side` is for workloads with a result for each kernel, whatever goes wrong there.
`run_one` is for one kernel, and raises where it can't even be prepared. `run_prepared` is what both
of them do once a kernel is prepared.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session import parallelism
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession, failure_of
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.session.workload import MatrixWorkload, Work, Workload

__all__ = ["run_one", "run_prepared", "run_side_by_side"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Ready(Generic[Result]):
    """A kernel that is prepared, with the workload's part in its session."""

    prepared: Prepared
    work: Work[Result]


def run_side_by_side(
    project: Project,
    ids: Sequence[str],
    workload: MatrixWorkload[Result],
    observer: Observer,
    jobs: int | None = None,
) -> list[Result]:
    """Run a workload on these kernels, at most `jobs` at once, and return each one's result.

    `jobs` defaults to what the host can bear. The results are in the order of the ids, each id
    once. BpfmatrixError says why nothing could be begun; what goes wrong on one kernel is its
    result. KeyboardInterrupt passes, after all machines ended and their results were written.
    """
    kernels = [project.config.kernel(id) for id in dict.fromkeys(ids)]
    payloads = {
        arch: workload.payload(arch, observer)
        for arch in dict.fromkeys(kernel.arch for kernel in kernels)
    }
    done: dict[str, Result] = {}
    ready: list[_Ready[Result]] = []
    for kernel in kernels:
        try:
            prepared = prepare(project, kernel, payloads[kernel.arch], workload.options, observer)
            work = workload.work(prepared, observer)
        except BpfmatrixError as error:
            workload.begin(kernel)
            done[kernel.id] = workload.unprepared(kernel, str(error), observer)
            continue
        known = workload.recall(prepared, observer)
        if known is not None:
            done[kernel.id] = known
        else:
            ready.append(_Ready(prepared, work))
    if ready:
        limit = jobs or parallelism.machines_at_once([one.prepared for one in ready])
        ready.sort(key=lambda one: parallelism.start_order(project, one.prepared))
        for id, result in asyncio.run(_run_all(project, ready, workload, observer, limit)):
            done[id] = result
    return [done[kernel.id] for kernel in kernels]


async def _run_all(
    project: Project,
    ready: Sequence[_Ready[Result]],
    workload: MatrixWorkload[Result],
    observer: Observer,
    limit: int,
) -> list[tuple[str, Result]]:
    machines = asyncio.Semaphore(limit)

    async def run(one: _Ready[Result]) -> tuple[str, Result]:
        async with machines:
            workload.begin(one.prepared.kernel)
            result = await run_prepared(
                project, one.prepared, one.work, observer, cold=workload.options.cold
            )
            workload.remember(one.prepared, result)
            return one.prepared.kernel.id, result

    # A cancelled group waits until each machine is gone and its result is written.
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(one)) for one in ready]
    return [task.result() for task in tasks]


def run_one(project: Project, id: str, workload: Workload[Result], observer: Observer) -> Result:
    """Run a workload on one kernel; BpfmatrixError where the kernel can't be prepared."""
    kernel = project.config.kernel(id)
    payload = workload.payload(kernel.arch, observer)
    prepared = prepare(project, kernel, payload, workload.options, observer)
    work = workload.work(prepared, observer)
    workload.begin(kernel)
    cold = workload.options.cold
    return asyncio.run(run_prepared(project, prepared, work, observer, cold=cold))


async def run_prepared(
    project: Project,
    prepared: Prepared,
    work: Work[Result],
    observer: Observer,
    *,
    cold: bool = False,
    entered: EnteredGuest | None = None,
) -> Result:
    """Enter a guest, or take the one that is `entered` already, do the work, return its result.

    A cancelled session has a result too, if its workload keeps one: `interrupted`, which is written
    before the cancellation goes on.
    """
    console = entered.console if entered else work.console
    session = GuestSession(project, prepared, console, observer, cold=cold)

    async def attend() -> None:
        async with session.begin(entered) as guest:
            await work.attend(guest)

    try:
        if work.needs_guest and (failure := await failure_of(attend(), work.limit_seconds)):
            await work.fail(*failure)
    except asyncio.CancelledError:
        await work.fail(Outcome.INTERRUPTED, "interrupted")
        with contextlib.suppress(BpfmatrixError):
            work.result(session)
        raise
    finally:
        work.close()
    return work.result(session)

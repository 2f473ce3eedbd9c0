"""The one way from the ids of kernels to results: prepare, enter a guest, do the work, keep.

`run_side_by_side` is for workloads with a result for each kernel, whatever goes wrong there, and
`run_asked` for several such workloads at once.
`run_one` is for one kernel, and raises if that can't be prepared. Both use `run_prepared` for each
kernel that is prepared.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import event_loop
from bpfmatrix.host.faults import as_errors
from bpfmatrix.payload.model import Payload
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session import parallelism
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession, failure_of
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.session.workload import MatrixWorkload, Run, Work, Workload

__all__ = ["Part", "prepare_one", "run_asked", "run_one", "run_prepared", "run_side_by_side"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class Part(Generic[Run]):
    """A workload that runs side by side with others, and who is told how it goes."""

    workload: MatrixWorkload[Run]
    observer: Observer


@dataclass(frozen=True)
class _Ready(Generic[Run]):
    """A kernel that is prepared, with the workload's part in its session."""

    part: Part[Run]
    prepared: Prepared
    work: Work[Run]


def run_side_by_side(
    project: Project,
    ids: Sequence[str],
    workload: MatrixWorkload[Run],
    observer: Observer,
    jobs: int | None = None,
) -> list[Run]:
    """Run a workload on these kernels, at most `jobs` at once, and return the result of each.

    `jobs` defaults to the number of machines that this host can run at once. The results are in the
    order of the ids, each id once. A kernel that can't be prepared or booted has a result that says
    so. BpfmatrixError if nothing can run at all, or if a result can't be written.

    On KeyboardInterrupt, all machines are ended and their results (`interrupted`) are written
    before it is raised again. A kernel whose session had not begun is `interrupted` too.
    """
    kernels = [project.config.kernel(id) for id in dict.fromkeys(ids)]
    with workload.asked(kernels):
        (results,) = run_asked(project, ids, [Part(workload, observer)], jobs)
    return results


def run_asked(
    project: Project, ids: Sequence[str], parts: Sequence[Part[Any]], jobs: int | None = None
) -> list[list[Any]]:
    """Run several workloads on these kernels, as `run_side_by_side` runs one of them.

    Each kernel has a machine for each workload, and `jobs` is the limit of all of them together.
    The results of each workload are a list, in the order of `parts`. The caller holds `asked` of
    each workload, or `asked_for`.
    """
    kernels = [project.config.kernel(id) for id in dict.fromkeys(ids)]
    ready: list[_Ready[Any]] = []
    done: list[dict[str, Any]] = []
    # A kernel that can't be had for one workload is not looked for again for another.
    unavailable: dict[str, KernelUnavailableError] = {}
    payloads = [_payloads(part, kernels) for part in parts]
    for part, of_arch in zip(parts, payloads, strict=True):
        part.workload.share_host(len(kernels) * len(parts))
        done.append({})
        for kernel in kernels:
            known = _known(project, part, kernel, of_arch[kernel.arch], unavailable)
            if isinstance(known, _Ready):
                ready.append(known)
            else:
                done[-1][kernel.id] = known
    if ready:
        limit = jobs or parallelism.machines_at_once([one.prepared for one in ready])
        ready.sort(key=lambda one: parallelism.start_order(one.part.workload.folder, one.prepared))
        for one, result in event_loop.run(_run_all(project, ready, limit)):
            done[parts.index(one.part)][result.kernel] = result
    return [[found[kernel.id] for kernel in kernels] for found in done]


def _payloads(part: Part[Run], kernels: Sequence[KernelConfig]) -> dict[str, Payload]:
    """Build the payload of a workload for each architecture of these kernels."""
    return {
        arch: part.workload.payload(arch, part.observer)
        for arch in dict.fromkeys(kernel.arch for kernel in kernels)
    }


def _known(
    project: Project,
    part: Part[Run],
    kernel: KernelConfig,
    payload: Payload,
    unavailable: dict[str, KernelUnavailableError],
) -> "Run | _Ready[Run]":
    """Prepare a kernel for a workload; return its result if it has one without a machine.

    `unavailable` has the errors of kernels that can't be had, by their ids.
    """
    workload, observer = part.workload, part.observer
    try:
        if kernel.id in unavailable:
            raise unavailable[kernel.id]
        with as_errors():
            prepared = prepare(project, kernel, payload, workload.options, observer)
            work = workload.work(prepared, observer)
    except BpfmatrixError as error:
        if isinstance(error, KernelUnavailableError):
            unavailable[kernel.id] = error
        workload.begin(kernel)
        failed = workload.unprepared(kernel, str(error))
        workload.keep(failed, observer)
        return failed
    known = workload.recall(prepared)
    if known is None:
        return _Ready(part, prepared, work)
    observer.finished(known)
    return known


async def _run_all(
    project: Project, ready: Sequence[_Ready[Any]], limit: int
) -> list[tuple[_Ready[Any], Any]]:
    """Run what is ready, at most `limit` machines at once; return the result of each."""
    machines = asyncio.Semaphore(limit)
    results: list[tuple[_Ready[Any], Any]] = []

    async def run(one: _Ready[Any]) -> None:
        workload, observer = one.part.workload, one.part.observer
        async with machines:
            result = await run_prepared(
                project, one.prepared, workload, observer, work=one.work, machines=machines
            )
        workload.remember(one.prepared, result)
        results.append((one, result))

    try:
        # A group that is cancelled waits until each machine has ended and its result is written.
        async with asyncio.TaskGroup() as group:
            for one in ready:
                group.create_task(run(one))
    except ExceptionGroup as errors:
        # The first error ended the group; the others would only repeat it.
        raise errors.exceptions[0] from None
    return results


def run_one(project: Project, id: str, workload: Workload[Result], observer: Observer) -> Result:
    """Run a workload on one kernel; BpfmatrixError if the kernel can't be prepared."""
    with workload.asked([project.config.kernel(id)]):
        prepared = prepare_one(project, id, workload, observer)
        return event_loop.run(run_prepared(project, prepared, workload, observer))


def prepare_one(
    project: Project, id: str, workload: Workload[Result], observer: Observer
) -> Prepared:
    """Build a workload's payload, and prepare one kernel for it; BpfmatrixError if that fails."""
    kernel = project.config.kernel(id)
    payload = workload.payload(kernel.arch, observer)
    return prepare(project, kernel, payload, workload.options, observer)


async def run_prepared(
    project: Project,
    prepared: Prepared,
    workload: Workload[Result],
    observer: Observer,
    *,
    work: Work[Result] | None = None,
    entered: EnteredGuest | None = None,
    machines: asyncio.Semaphore | None = None,
) -> Result:
    """Run one kernel's session: begin, enter a guest, do the work, end, keep the result.

    `work` is the workload's part if it was made before. `entered` is a guest to use in place of one
    that is started now. `machines` has a place for each machine that this host can run besides the
    first one of this session: guests that share the work take places from it. If the session is
    cancelled, its result (`interrupted`) is kept before the cancellation goes on. BpfmatrixError if
    there is no result, or if it can't be written.
    """
    work = work or workload.work(prepared, observer)
    workload.begin(prepared.kernel)
    console = entered.console if entered else work.console
    session = GuestSession(project, prepared, console, observer)

    try:
        if work.needs_guest:
            attended = _attend(session, work, entered, machines)
            if failure := await failure_of(attended, work.limit):
                await work.fail(*failure)
    except asyncio.CancelledError:
        await work.fail(Outcome.INTERRUPTED, "interrupted")
        with contextlib.suppress(BpfmatrixError):
            workload.keep(work.result(session), observer)
        raise
    finally:
        work.close()
    result = work.result(session)
    workload.keep(result, observer)
    return result


async def _attend(
    session: GuestSession,
    work: Work[Result],
    entered: EnteredGuest | None,
    machines: asyncio.Semaphore | None,
) -> None:
    """Do the work in one guest after another, or in several side by side that share it.

    The first error of one guest ends the others, and is raised.
    """
    is_entered = asyncio.Event()
    waiting: set[asyncio.Task[None]] = set()

    async def first() -> None:
        async with session.begin(entered) as guest:
            is_entered.set()
            await work.attend(guest)
        await more()
        for task in waiting:
            task.cancel()

    async def more() -> None:
        while work.needs_another_guest:
            async with session.begin() as guest:
                await work.attend(guest)

    async def further(places: asyncio.Semaphore) -> None:
        # The template of the first guest is there now; nobody makes it twice.
        await is_entered.wait()
        async with places:
            waiting.remove(cast("asyncio.Task[None]", asyncio.current_task()))
            await more()

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(first())
            if machines is not None:
                for _ in range(work.guests_at_once - 1):
                    waiting.add(group.create_task(further(machines)))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None

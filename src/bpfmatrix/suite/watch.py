"""Run the tests again at each save: `invoke watch`.

Between two runs, a machine that is already restored waits for its job, so that after a save only
the build and the tests take time. The machine's disk is a file of its own: the payload is written
into it after the build, before the guest first reads it.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import event_loop, sparse
from bpfmatrix.host.faults import as_errors
from bpfmatrix.session.guest_session import enter
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import prepare_one, run_prepared
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.saves import Saves, following
from bpfmatrix.suite.workload import SuiteWorkload
from bpfmatrix.vm.machine import MachineEndedError
from bpfmatrix.vm.protocol import ProtocolError

__all__ = ["watch"]


def watch(
    project: Project,
    kernel: str,
    options: RunOptions,
    observe: Callable[[], Observer],
    complain: Callable[[BpfmatrixError], None],
    times: int = 0,
) -> None:
    """Run the tests on a kernel now and at each save, until Ctrl-C, or at most `times` if not 0.

    `observe` returns the observer of one run. `complain` is called with the error that kept a run
    from starting, such as that of a compiler; the next save starts another run.
    """
    with contextlib.suppress(KeyboardInterrupt):
        event_loop.run(_watch(project, kernel, options, observe, complain, times))


async def _watch(
    project: Project,
    id: str,
    options: RunOptions,
    observe: Callable[[], Observer],
    complain: Callable[[BpfmatrixError], None],
    times: int,
) -> None:
    workload = SuiteWorkload(project, options)
    async with following(project) as saves:
        at_once, done = True, 0
        while not times or done < times:
            with observe() as observer:
                error = await _run(project, id, workload, observer, None if at_once else saves)
                at_once = error is not None
                if error is None:
                    done += 1
                else:
                    complain(error)
                    await saves.next()


async def _run(
    project: Project,
    id: str,
    workload: SuiteWorkload,
    observer: Observer,
    saves: Saves | None,
) -> BpfmatrixError | None:
    """Run the tests, at the next save if there are `saves`; return what kept them from running.

    The run's result then says so.
    """
    kernel = project.config.kernel(id)
    try:
        with as_errors():
            await _run_in_waiting_guest(project, id, workload, observer, saves)
    except BpfmatrixError as error:
        failure = error
    except (MachineEndedError, ProtocolError) as error:
        failure = BpfmatrixError(f"{id}: the guest did not become ready: {error}")
    else:
        return None
    with contextlib.suppress(BpfmatrixError):  # such as a full disk, which `failure` may be too
        workload.begin(kernel)
        workload.keep(workload.unprepared(kernel, str(failure)), Observer())
    return failure


async def _run_in_waiting_guest(
    project: Project,
    id: str,
    workload: SuiteWorkload,
    observer: Observer,
    saves: Saves | None,
) -> None:
    prepared = prepare_one(project, id, workload, observer if saves is None else Observer())
    disk = project.state / "watch" / "payload.ext4"
    disk.parent.mkdir(parents=True, exist_ok=True)
    with disk.open("wb") as file:
        file.truncate(prepared.spec.payload.stat().st_size)
    waiting = _with_disk(prepared, disk)
    async with enter(project, waiting, disk.with_name("console.log"), observer) as entered:
        if saves is not None:
            observer.doing(id, "watch", f"waiting for a save in {saves.places}; Ctrl-C ends")
            observer.note(f"saved   {await saves.next()}")
        saved = time.monotonic()
        if saves is not None:
            prepared = prepare_one(project, id, workload, observer)
        if prepared.spec.payload.stat().st_size != disk.stat().st_size:
            raise BpfmatrixError("the payload outgrew its disk", "It runs at the next save.")
        # QEMU has this file open, so it is written in place.
        with prepared.spec.payload.open("rb") as made, disk.open("r+b") as ours:
            sparse.copy(made.fileno(), ours.fileno())
        prepared = _with_disk(prepared, disk)
        await run_prepared(project, prepared, workload, observer, entered=entered)
        if saves is not None:
            observer.note(f"{time.monotonic() - saved:.2f} s from save to verdict")


def _with_disk(prepared: Prepared, disk: Path) -> Prepared:
    return dataclasses.replace(prepared, spec=dataclasses.replace(prepared.spec, payload=disk))

"""Run what a project has again at each save: `invoke watch`.

Between two runs, a machine that is already restored waits for its job, so that after a save only
the build and the tests take time. The machine's disk is a file of its own: the payload is written
into it after the build, before the guest first reads it.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import event_loop, sparse
from bpfmatrix.host.faults import as_errors
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.session.guest_session import enter
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import Part, prepare_one, run_prepared
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.saves import Saves, following
from bpfmatrix.vm.machine import MachineEndedError
from bpfmatrix.vm.protocol import ProtocolError

__all__ = ["WatchedRun", "watch"]


class WatchedRun(Protocol):
    """One run, from the wait for a save to the results."""

    @property
    def observer(self) -> Observer:
        """Who is told what concerns the whole run."""

    def __enter__(self) -> Self:
        """Begin to show progress."""

    def __exit__(self, *_: object) -> None:
        """End the live progress."""

    def parts(self, *, quiet: bool) -> Sequence[Part[Any]]:
        """Return the workloads of this run, as the files are now; BpfmatrixError if there are none.

        It is called again after the save; the time before is `quiet`, and nobody is told of it.
        """

    def without_tests(self, error: NoTestsError) -> Sequence[Part[Any]]:
        """Return the other parts, as there are no tests; the error is raised if that is wrong."""

    def done(self, part: Part[Any]) -> None:
        """Know that the result of a part is written."""

    def failed(self, reason: str) -> None:
        """Write a result that says what kept the run from its work, for each part without one."""

    def show(self, results: Sequence[Any]) -> None:
        """Print what waits for the results of all parts."""


def watch(
    project: Project,
    kernel: str,
    begin: Callable[[], WatchedRun],
    complain: Callable[[BpfmatrixError], None],
    times: int = 0,
) -> None:
    """Run on a kernel now and at each save, until Ctrl-C, or at most `times` if not 0.

    `complain` is called with the error that kept a run from starting, such as that of a compiler;
    the next save starts another run.
    """
    with contextlib.suppress(KeyboardInterrupt):
        event_loop.run(_watch(project, kernel, begin, complain, times))


async def _watch(
    project: Project,
    id: str,
    begin: Callable[[], WatchedRun],
    complain: Callable[[BpfmatrixError], None],
    times: int,
) -> None:
    async with following(project) as saves:
        at_once, done = True, 0
        while not times or done < times:
            with begin() as one:
                error = await _run(project, id, one, None if at_once else saves)
                at_once = error is not None
                if error is None:
                    done += 1
                else:
                    complain(error)
                    await saves.next()


async def _run(
    project: Project, id: str, one: WatchedRun, saves: Saves | None
) -> BpfmatrixError | None:
    """Run, at the next save if there are `saves`; return what kept it from that.

    The run's result then says so.
    """
    try:
        with as_errors():
            await _run_in_waiting_guest(project, id, one, saves)
    except BpfmatrixError as error:
        failure = error
    except (MachineEndedError, ProtocolError) as error:
        failure = BpfmatrixError(f"{id}: the guest did not become ready: {error}")
    else:
        return None
    if isinstance(failure, NoTestsError):  # nothing was to run, so the last result stays
        return failure
    with contextlib.suppress(BpfmatrixError):  # such as a full disk, which `failure` may be too
        one.failed(str(failure))
    return failure


async def _run_in_waiting_guest(
    project: Project, id: str, one: WatchedRun, saves: Saves | None
) -> None:
    """Run the first part in the guest that waits, and each other part in one of its own."""
    observer = one.observer
    told = observer if saves is None else Observer()
    prepared, first, others = _prepared(project, id, one, told, quiet=saves is not None)
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
            prepared, first, others = _prepared(project, id, one, observer, quiet=False)
        if prepared.spec.payload.stat().st_size != disk.stat().st_size:
            raise BpfmatrixError("the payload outgrew its disk", "It runs at the next save.")
        # QEMU has this file open, so it is written in place.
        with prepared.spec.payload.open("rb") as made, disk.open("r+b") as ours:
            sparse.copy(made.fileno(), ours.fileno())
        prepared = _with_disk(prepared, disk)
        results = [
            await run_prepared(project, prepared, first.workload, first.observer, entered=entered)
        ]
        one.done(first)
        for part in others:
            prepared = prepare_one(project, id, part.workload, part.observer)
            results.append(await run_prepared(project, prepared, part.workload, part.observer))
            one.done(part)
        one.show(results)
        if saves is not None:
            observer.note(f"{time.monotonic() - saved:.2f} s from save to verdict")


def _prepared(
    project: Project, id: str, one: WatchedRun, observer: Observer, *, quiet: bool
) -> tuple[Prepared, Part[Any], Sequence[Part[Any]]]:
    """Return the first part that has something to run, prepared, and the other parts."""
    first, *others = one.parts(quiet=quiet)
    try:
        return prepare_one(project, id, first.workload, observer), first, others
    except NoTestsError as error:
        first, *others = one.without_tests(error)
    return prepare_one(project, id, first.workload, observer), first, others


def _with_disk(prepared: Prepared, disk: Path) -> Prepared:
    return dataclasses.replace(prepared, spec=dataclasses.replace(prepared.spec, payload=disk))

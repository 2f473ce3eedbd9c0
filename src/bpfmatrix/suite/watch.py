"""Run again at each save: `invoke watch`.

Between two runs, a machine that was restored already waits for its job, so that a save is followed
by a build and the tests, and by nothing else. The machine's disk is a file of its own: the payload
is written into it before the guest first reads it.
"""

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import sparse
from bpfmatrix.session.guest_session import enter
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import prepare_one, run_prepared
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWorkload

if TYPE_CHECKING:
    from watchfiles import Change

__all__ = ["watch"]

# Editors write a file in several steps; what comes within this time belongs together.
_TOGETHER_MS = 30
# awatch says nothing when it has begun, which it does as soon as it comes to run.
_BEGUN_SECONDS = 0.02
_IGNORED = (".o", ".d", ".test", ".swp", "~", ".tmp")


def watch(
    project: Project,
    kernel: str,
    options: RunOptions,
    observe: Callable[[], Observer],
    complain: Callable[[BpfmatrixError], None],
    times: int = 0,
) -> None:
    """Run the tests on a kernel now and at each save, until Ctrl-C (or so many times).

    `observe` gives the observer of one run. `complain` is told what kept a run from starting, such
    as a compiler's error: the next save may mend it.
    """
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(project, kernel, options, observe, complain, times))


async def _watch(
    project: Project,
    id: str,
    options: RunOptions,
    observe: Callable[[], Observer],
    complain: Callable[[BpfmatrixError], None],
    times: int,
) -> None:
    workload = SuiteWorkload(project, options)
    async with _watching(project) as saves:
        at_once, done = True, 0
        while not times or done < times:
            with observe() as observer:
                try:
                    await _once(project, id, workload, observer, None if at_once else saves)
                    at_once = False
                    done += 1
                except BpfmatrixError as error:
                    complain(error)
                    await saves.next()
                    at_once = True


async def _once(
    project: Project,
    id: str,
    workload: SuiteWorkload,
    observer: Observer,
    saves: "_Saves | None",
) -> None:
    """Restore a machine, wait for a save if there are `saves`, build and run."""
    waiting = prepare_one(project, id, workload, observer if saves is None else Observer())
    disk = project.state / "watch" / "payload.ext4"
    disk.parent.mkdir(parents=True, exist_ok=True)
    with disk.open("wb") as file:
        file.truncate(waiting.spec.payload.stat().st_size)
    spec = dataclasses.replace(waiting.spec, payload=disk)
    waiting = dataclasses.replace(waiting, spec=spec)
    console = disk.with_name("console.log")
    async with enter(project, waiting, console, observer) as entered:
        if saves is not None:
            observer.doing(id, "watch", _folders_text(project))
            observer.note(f"saved   {await saves.next()}")
        saved = time.monotonic()
        prepared = prepare_one(project, id, workload, observer)
        if prepared.spec.payload.stat().st_size != disk.stat().st_size:
            raise BpfmatrixError("the payload outgrew its disk", "It runs at the next save.")
        # The same file, which QEMU has open.
        with prepared.spec.payload.open("rb") as made, disk.open("r+b") as ours:
            sparse.copy(made.fileno(), ours.fileno())
        prepared = dataclasses.replace(prepared, spec=spec)
        await run_prepared(project, prepared, workload, observer, entered=entered)
        if saves is not None:
            observer.note(f"{time.monotonic() - saved:.2f} s from save to verdict")


def _folders(project: Project) -> list[Path]:
    payload = project.config.payload
    names = [payload.ebpf, payload.go.module if payload.go else None, *payload.files.values()]
    return [path for name in names if name and (path := project.root / name).is_dir()]


def _files(project: Project) -> list[Path]:
    """Give the single files that are watched, however they are called."""
    payload = project.config.payload
    files = [path for name in payload.files.values() if (path := project.root / name).is_file()]
    return [*(project.root / path for path in payload.binaries), *files]


def _folders_text(project: Project) -> str:
    names = ", ".join(project.relative(path) for path in (*_folders(project), *_files(project)))
    return f"waiting for a save in {names}; Ctrl-C ends"


class _Saves:
    """The saves of files that are not themselves built, from the moment on that it was made."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._names: asyncio.Queue[set[str]] = asyncio.Queue()

    async def next(self) -> str:
        """Wait for a save that was not told of yet, and give the names of all such files."""
        names = await self._names.get()
        while not self._names.empty():
            names |= self._names.get_nowait()
        return ", ".join(sorted(names))

    async def follow(self) -> None:
        """Take note of saves, for ever."""
        from watchfiles import Change  # noqa: PLC0415 - off the start-up path

        binaries = {str(path) for path in _files(self._project)}

        def source(change: Change, path: str) -> bool:
            return not path.endswith(_IGNORED) and f"{os.sep}." not in path[len(root) :]

        def binary(change: Change, path: str) -> bool:
            return path in binaries and change != Change.deleted

        root = str(self._project.root)
        # What builds a binary puts another file in its place, which only its folder tells of.
        around = {Path(path).parent for path in binaries}
        async with asyncio.TaskGroup() as group:
            for places, wanted, below in (
                (_folders(self._project), source, True),
                (around, binary, False),
            ):
                if places:
                    group.create_task(self._follow(places, wanted, below))

    async def _follow(
        self, places: Iterable[Path], wanted: "Callable[[Change, str], bool]", below: bool
    ) -> None:
        from watchfiles import awatch  # noqa: PLC0415

        async for changes in awatch(
            *places, watch_filter=wanted, debounce=400, step=_TOGETHER_MS, recursive=below
        ):
            self._names.put_nowait({self._project.relative(Path(path)) for _, path in changes})


@contextlib.asynccontextmanager
async def _watching(project: Project) -> AsyncIterator[_Saves]:
    """Follow saves from here on: also those that come while the tests of one before run."""
    saves = _Saves(project)
    following = asyncio.create_task(saves.follow())
    await asyncio.sleep(_BEGUN_SECONDS)
    try:
        yield saves
    finally:
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

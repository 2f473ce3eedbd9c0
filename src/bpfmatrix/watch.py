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
from collections.abc import AsyncIterator
from pathlib import Path

from bpfmatrix import commandline, matrix
from bpfmatrix.console import Report
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.options import Options
from bpfmatrix.project import Project
from bpfmatrix.run import Listener, Prepared, Silent, enter, execute, prepare

__all__ = ["watch"]

# Editors write a file in several steps; what comes within this time belongs together.
_TOGETHER_MS = 30
_IGNORED = (".o", ".d", ".test", ".swp", "~", ".tmp")


def watch(project: Project, kernel: str, options: Options, times: int = 0) -> None:
    """Run the tests on a kernel now and at each save, until Ctrl-C (or so many times)."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_watch(project, kernel, options, times))


async def _watch(project: Project, id: str, options: Options, times: int) -> None:
    saves = _saves(project)
    at_once, done = True, 0
    while not times or done < times:
        with Report(project, [id]) as report:
            try:
                await _once(project, id, options, report, None if at_once else saves)
                at_once = False
                done += 1
            except (
                BpfmatrixError
            ) as error:  # such as what the compiler said: the next save mends it
                commandline.complain(error)
                await anext(saves)
                at_once = True


async def _once(
    project: Project,
    id: str,
    options: Options,
    report: Report,
    saves: AsyncIterator[str] | None,
) -> None:
    """Restore a machine, wait for a save if there are `saves`, build and run."""
    waiting = _prepare(project, id, options, report if saves is None else Silent())
    disk = project.state / "watch" / "payload.ext4"
    disk.parent.mkdir(parents=True, exist_ok=True)
    with disk.open("wb") as file:
        file.truncate(waiting.spec.payload.stat().st_size)
    spec = dataclasses.replace(waiting.spec, payload=disk)
    waiting = dataclasses.replace(waiting, spec=spec)
    console = disk.with_name("console.log")
    async with enter(project, waiting, console, options.cold, report) as entered:
        if saves is not None:
            report.doing(id, "watch", _folders_text(project))
            report.note(f"saved   {await anext(saves)}")
        saved = time.monotonic()
        prepared = _prepare(project, id, options, report)
        if prepared.spec.payload.stat().st_size != disk.stat().st_size:
            raise BpfmatrixError("the payload outgrew its disk", "It runs at the next save.")
        _copy_sparse(prepared.spec.payload, disk)
        prepared = dataclasses.replace(prepared, spec=spec)
        await execute(project, prepared, options, report, entered)
        if saves is not None:
            report.note(f"{time.monotonic() - saved:.2f} s from save to verdict")


def _prepare(project: Project, id: str, options: Options, report: Listener) -> Prepared:
    kernel = project.config.kernel(id)
    payload = matrix.built(project, kernel.arch, options, report)
    return prepare(project, kernel, payload, options, report)


def _folders(project: Project) -> list[Path]:
    payload = project.config.payload
    names = [payload.ebpf, payload.go.module if payload.go else None, *payload.binaries]
    return [path for name in names if name and (path := project.root / name).exists()]


def _folders_text(project: Project) -> str:
    names = ", ".join(project.relative(path) for path in _folders(project))
    return f"waiting for a save in {names}; Ctrl-C ends"


async def _saves(project: Project) -> AsyncIterator[str]:
    """Give, at each save of files that are not themselves built, their names."""
    from watchfiles import Change, DefaultFilter, awatch  # noqa: PLC0415

    class Sources(DefaultFilter):
        def __call__(self, change: Change, path: str) -> bool:
            return not path.endswith(_IGNORED) and super().__call__(change, path)

    async for changes in awatch(
        *_folders(project), watch_filter=Sources(), debounce=400, step=_TOGETHER_MS
    ):
        yield ", ".join(sorted({project.relative(Path(path)) for _, path in changes}))


def _copy_sparse(source: Path, target: Path) -> None:
    """Give the target the content of the source, with its holes, and without being another file."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        size = os.fstat(reader.fileno()).st_size
        writer.truncate(0)
        writer.truncate(size)
        start = 0
        while start < size:
            try:
                start = os.lseek(reader.fileno(), start, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                return
            end = os.lseek(reader.fileno(), start, os.SEEK_HOLE)
            while start < end:
                copied = os.copy_file_range(
                    reader.fileno(), writer.fileno(), end - start, start, start
                )
                start += copied

"""The saves of what a project's tests and eBPF objects are built from, or are.

`following` gives a `Saves`, which knows all saves from then on: even those that happen while the
tests of an earlier save run.
"""

import asyncio
import contextlib
import fnmatch
import glob
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.config.project import Project
from bpfmatrix.payload.declared import REGISTRY_PREFIX, makefile_of

if TYPE_CHECKING:
    from watchfiles import Change

__all__ = ["Saves", "following"]

# Editors write a file in several steps; changes within this time are one save.
_TOGETHER_MS = 30
# awatch begins to watch as soon as its task runs, but does not report that.
_BEGUN_SECONDS = 0.02
# Files that are built, or that editors write beside the file that is saved.
_IGNORED = (".o", ".d", ".test", ".swp", "~", ".tmp")


@contextlib.asynccontextmanager
async def following(project: Project) -> AsyncIterator["Saves"]:
    """Give the saves of a project, from now until the context is left."""
    saves = Saves(project)
    task = asyncio.create_task(saves.follow())
    await asyncio.sleep(_BEGUN_SECONDS)
    try:
        yield saves
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Saves:
    """The saves of a project's source files, and of the executables and objects that it declares.

    Objects that the project's own Makefile builds (`payload.ebpf`) do not count: their sources do.
    """

    def __init__(self, project: Project) -> None:
        payload = project.config.payload
        named = [project.root / path for path in payload.files.values()]
        sources = [payload.ebpf, payload.go.module if payload.go else None]
        folders = [*(project.root / path for path in sources if path), *named]
        self._project = project
        self._folders = [path for path in folders if path.is_dir()]
        # Declared executables count even if they do not exist yet.
        self._files = [
            *(project.root / binary.path for binary in payload.binaries),
            *(path for path in named if path.is_file()),
        ]
        self._objects = _declared_objects(project)
        self._names: asyncio.Queue[set[str]] = asyncio.Queue()

    @property
    def places(self) -> str:
        """The folders and files that are watched, for people."""
        return ", ".join(
            map(self._project.relative, (*self._folders, *self._files, *self._objects))
        )

    async def next(self) -> str:
        """Wait for a save that was not returned yet, and return the names of all such files."""
        names = await self._names.get()
        while not self._names.empty():
            names |= self._names.get_nowait()
        return ", ".join(sorted(names))

    async def follow(self) -> None:
        """Record saves until it is cancelled."""
        from watchfiles import Change  # noqa: PLC0415 - off the start-up path

        root, files = str(self._project.root), set(map(str, self._files))

        def is_source(change: Change, path: str) -> bool:
            return not path.endswith(_IGNORED) and f"{os.sep}." not in path[len(root) :]

        def is_file(change: Change, path: str) -> bool:
            return path in files and change != Change.deleted

        def is_object(change: Change, path: str) -> bool:
            return change != Change.deleted and any(
                _is_object(Path(path), pattern) for pattern in self._objects
            )

        # A build replaces an executable by another file, which only shows in its folder.
        parents = {path.parent for path in self._files}
        async with asyncio.TaskGroup() as group:
            if self._folders:
                group.create_task(self._follow(self._folders, is_source, recursive=True))
            if parents:
                group.create_task(self._follow(parents, is_file, recursive=False))
            if built := {_watched_folder(pattern) for pattern in self._objects}:
                group.create_task(self._follow(built, is_object, recursive=True))

    async def _follow(
        self,
        folders: Iterable[Path],
        is_save: "Callable[[Change, str], bool]",
        *,
        recursive: bool,
    ) -> None:
        from watchfiles import awatch  # noqa: PLC0415 - off the start-up path

        async for changes in awatch(
            *folders, watch_filter=is_save, debounce=400, step=_TOGETHER_MS, recursive=recursive
        ):
            self._names.put_nowait({self._project.relative(Path(path)) for _, path in changes})


def _declared_objects(project: Project) -> list[Path]:
    """Return the patterns of `verify.objects`, but for those of what the project itself builds."""
    payload = project.config.payload
    sources = project.root / payload.ebpf if payload.ebpf else None
    builds = sources is not None and makefile_of(sources) is not None
    found = []
    for entry in project.config.verify.objects:
        pattern = Path(os.path.normpath(project.root / entry.path))
        is_built = builds and sources is not None and pattern.is_relative_to(sources)
        if not entry.path.startswith(REGISTRY_PREFIX) and not is_built:
            found.append(pattern)
    return found


def _is_object(path: Path, pattern: Path) -> bool:
    """Whether a file is an object that an entry names: a file, a folder of them, or a pattern."""
    inside = pattern in path.parents and path.suffix == ".o"
    return inside or fnmatch.fnmatchcase(str(path), str(pattern))


def _watched_folder(pattern: Path) -> Path:
    """Return the folder that has all files of a pattern, or else the nearest one that exists."""
    plain = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    folder = Path(*plain)
    if folder == pattern and not folder.is_dir():
        folder = folder.parent
    return next(each for each in (folder, *folder.parents) if each.is_dir())

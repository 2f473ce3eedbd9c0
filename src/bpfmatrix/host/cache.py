"""The folder that all checkouts of a user share: kernels, templates, payload images, and so on.

No file in it is ever incomplete: each is made below `tmp/`, and then renamed into place.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import integrity, locks

__all__ = ["Cache", "Pruned"]

# Folders of files that are derived from others, and are made again when they are missing.
_DERIVED = ("guest-programs", "initramfs", "modules", "payloads", "bytecode-lines")
# Such files that are made of what was fetched, so that to make them again takes a network.
_FETCHED = ("loader-sources", "objects", "rootfs")
_FETCHED_SECONDS = 90 * 24 * 3600


@dataclass(frozen=True)
class Pruned:
    """Something that was removed from the cache."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Cache:
    """A cache folder, which is made when it is first used."""

    root: Path

    @classmethod
    def default(cls) -> "Cache":
        """Return the cache of this user: `$BPFMATRIX_CACHE`, or `bpfmatrix` in the XDG cache."""
        if own := os.environ.get("BPFMATRIX_CACHE"):
            return cls(Path(own).absolute())
        # The XDG Base Directory specification: ignore XDG_CACHE_HOME if it is empty or relative.
        xdg = Path(os.environ.get("XDG_CACHE_HOME") or "")
        return cls((xdg if xdg.is_absolute() else Path.home() / ".cache") / "bpfmatrix")

    @contextlib.contextmanager
    def lock(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the lock of this name, against other processes too; a killed holder frees it.

        `waiting` is called if another process holds it.
        """
        path = self.root / "locks" / name.replace("/", "_")
        with contextlib.ExitStack() as held:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(locks.locked(path, waiting))
            except OSError as error:
                raise BpfmatrixError(
                    f"the cache {self.root} can't be written ({error.strerror})",
                    "Let BPFMATRIX_CACHE name a folder that you can write into.",
                ) from error
            yield

    def prune_derived(self, unused_seconds: float = 7 * 24 * 3600) -> list[Pruned]:
        """Remove initramfs archives, payload images and the like that were not used for so long.

        Those that take a network are kept for 90 days, unless `unused_seconds` is 0.

        Whoever uses one calls `integrity.mark_used`, or sets the modification time of a file that
        has no record. A machine that has one open can still read it.
        """
        removed, now = [], time.time()
        fetched_seconds = max(unused_seconds, _FETCHED_SECONDS) if unused_seconds else 0
        folders = (
            *((self.root / name, now - unused_seconds) for name in _DERIVED),
            *((self.root / name, now - fetched_seconds) for name in _FETCHED),
        )
        # A record comes after the file that it is of, and is removed with it.
        for path, oldest in (
            (path, oldest) for folder, oldest in folders for path in sorted(folder.glob("*"))
        ):
            with contextlib.suppress(OSError):
                known, record = path.stat(), integrity.record_of(path)
                used = record.stat() if record.exists() else known
                is_record = path.suffix == record.suffix and path.with_suffix("").exists()
                if used.st_mtime < oldest and not is_record:
                    integrity.remove(path)
                    removed.append(Pruned(f"{path.parent.name}/{path.name}", known.st_size))
        return removed

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give an empty folder on the cache's file system; it is removed in the end.

        A process that is killed leaves its folder behind, and the next call removes it: a folder
        that is in use is locked, and the lock ends with its process.
        """
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            # The lock keeps others from removing the folder before it is locked itself.
            with self.lock("tmp"):
                for stale in parent.iterdir():
                    _remove_unless_in_use(stale)
                folder = Path(tempfile.mkdtemp(dir=parent))
                held.enter_context(locks.folder_locked_if_free(folder))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def _remove_unless_in_use(folder: Path) -> None:
    with contextlib.suppress(OSError), locks.folder_locked_if_free(folder) as ours:
        if ours:
            shutil.rmtree(folder)

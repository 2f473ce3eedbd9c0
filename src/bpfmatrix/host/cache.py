"""The folder that all checkouts of a machine share: kernels, probes, prepared images.

Nothing appears in it half-written: what is made is made under `tmp/` and then renamed into place.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import locks

__all__ = ["Cache", "Pruned"]


# What is made from other things of the cache, and again when it is missing.
_MADE = ("guest-programs", "initramfs", "payloads", "pylines")


@dataclass(frozen=True)
class Pruned:
    """Something of the cache's that was removed."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class Cache:
    """A cache folder; made on first use."""

    root: Path

    @classmethod
    def default(cls) -> "Cache":
        """Return the cache of this user: `$BPFMATRIX_CACHE`, or `bpfmatrix` in the XDG cache."""
        if own := os.environ.get("BPFMATRIX_CACHE"):
            return cls(Path(own).absolute())
        # An empty or relative XDG_CACHE_HOME is to be ignored (XDG Base Directory specification).
        xdg = Path(os.environ.get("XDG_CACHE_HOME") or "")
        return cls((xdg if xdg.is_absolute() else Path.home() / ".cache") / "bpfmatrix")

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lock of this name, against other processes too; a killed holder frees it."""
        path = self.root / "locks" / name.replace("/", "_")
        with contextlib.ExitStack() as held:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(locks.locked(path))
            except OSError as error:
                raise BpfmatrixError(
                    f"the cache {self.root} can't be written ({error.strerror})",
                    "Let BPFMATRIX_CACHE name a folder that you can write into.",
                ) from error
            yield

    def prune_made(self, unused_seconds: float = 7 * 24 * 3600) -> list[Pruned]:
        """Remove prepared images that nobody used for so long (`os.utime` says that one is used).

        A machine that has one open keeps it.
        """
        removed, oldest = [], time.time() - unused_seconds
        for path in (path for name in _MADE for path in (self.root / name).glob("*")):
            with contextlib.suppress(OSError):
                known = path.stat()
                if known.st_mtime < oldest:
                    path.unlink()
                    removed.append(Pruned(f"{path.parent.name}/{path.name}", known.st_size))
        return removed

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Give an empty folder on the cache's own file system, removed at the end if still there.

        Folders that a killed process left are removed by the next one to come here: each is
        locked for as long as its maker lives.
        """
        parent = self.root / "tmp"
        parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            # Under a lock, so that nobody sweeps a folder between its making and its locking.
            with self.lock("tmp"):
                for stale in parent.iterdir():
                    with contextlib.suppress(OSError), locks.folder_locked_if_free(stale) as ours:
                        if ours:
                            shutil.rmtree(stale)
                folder = Path(tempfile.mkdtemp(dir=parent))
                held.enter_context(locks.folder_locked_if_free(folder))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

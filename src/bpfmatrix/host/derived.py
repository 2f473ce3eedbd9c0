"""Files of the cache that can be made again: each is checked before it is used."""

from collections.abc import Callable
from pathlib import Path

from bpfmatrix.host import integrity
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, announce, silent

__all__ = ["obtain"]


def obtain(
    cache: Cache,
    target: Path,
    name: str,
    make: Callable[[Path], None],
    progress: Progress = silent,
    *,
    reread: bool = False,
    holes: bool = False,
    lock: str = "",
) -> Path:
    """Return a file of the cache, which is made if it is missing, and made again if it is damaged.

    `make` writes the content to the path that it is given, an empty place on the cache's file
    system. `name` is the file's name for people, for the line that says that it is made again. For
    `reread` and `holes`, see `integrity`. `lock` names the lock that is held meanwhile, for what
    takes long to make; by default there is one for all files of a kind.
    """
    if not integrity.damage(target, reread=reread, holes=holes):
        integrity.mark_used(target)
        return target
    # Not one for each file, since the file of a lock stays.
    lock = lock or f"making-{target.relative_to(cache.root).parts[0]}"
    with cache.lock(lock, lambda: progress(f"waiting for another process, which makes {name}")):
        damage = integrity.damage(target, reread=reread, holes=holes)
        if damage:  # no other process made it meanwhile
            if target.exists():
                announce(progress, f"{name} {damage} in the cache; making it again")
            with cache.staging() as staging:
                made = staging / "made"
                make(made)
                integrity.remove(target)
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
                integrity.seal(target, holes=holes)
            cache.prune_derived()
    return target

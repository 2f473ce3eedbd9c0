"""From a kernel of kernels.yaml to a stored image, by its source; what goes wrong is explained."""

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError, DamagedError, UnreachableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels import pinned, sources
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.placed_images import PROJECT_FOLDER
from bpfmatrix.kernels.store import Store, is_disk_full

__all__ = ["fetch"]


def fetch(
    kernel: KernelConfig, cache: Cache, progress: Progress, same: bool = False
) -> KernelImage:
    """Resolve a kernel, store its image unless it is there, and let the kernel point at it.

    `same` asks for the packages that it resolved to before, if its source still has them. Of a
    pinned kernel, nothing but what it is pinned to is taken. Every
    BpfmatrixError begins with the kernel's id. The caller holds the kernel's lock.
    """
    store = Store(cache)
    try:
        if kernel.pin:
            return pinned.fetch(kernel, store, progress)
        return sources.of(kernel).fetch(store, progress, same)
    except UnreachableError as error:
        if kernel.pin:
            raise UnreachableError(f"{kernel.id}: {error.what}", error.advice) from error
        raise _unreachable(kernel, store, error) from error
    except BpfmatrixError as error:
        raise type(error)(f"{kernel.id}: {error.what}", error.advice) from error
    except OSError as error:
        if not is_disk_full(error):
            raise BpfmatrixError(
                f"{kernel.id}: the cache {cache.root} can't be written ({error.strerror})",
                "Let BPFMATRIX_CACHE name a folder that you can write into.",
            ) from error
        raise BpfmatrixError(
            f"{kernel.id}: no space was left in {cache.root} while the kernel was unpacked",
            "Free some space, let BPFMATRIX_CACHE name a larger disk, or run "
            f"`{command('kernels.prune')}`.",
        ) from error


def _unreachable(kernel: KernelConfig, store: Store, error: UnreachableError) -> UnreachableError:
    """Return the error with what is cached, or else with the ways to do without a network."""
    try:
        if image := store.resolved(kernel):
            image.verify()
            return UnreachableError(
                f"{kernel.id}: {error.what} and the cached {image.version} stays in use.",
                f"Try again with a network. {error.advice}".strip(),
            )
        so = "no kernel of this series is cached"
    except DamagedError as damage:
        so = f"the cached kernel is damaged ({damage.what})"
    ways = sources.of(kernel).other_ways(f"{PROJECT_FOLDER}/{kernel.id}/vmlinuz")
    return UnreachableError(
        f"{kernel.id}: {error.what} and {so}.",
        f"Try again with a network, {ways} {error.advice}".strip(),
    )

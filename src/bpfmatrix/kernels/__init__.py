"""The kernels of kernels.yaml, as files that boot.

`provide` gives a kernel's `KernelImage`: the cached one, verified, or else a freshly fetched one.
`KERN_DIR` and `ci-kernels/` come in between, as the module `directory` says. A series stays on the
release that it resolved to until `update`. `cached`, `newest_available` and
`search` are for lists, `prune` removes what nothing points at.
"""

import contextlib
import shutil
from typing import TYPE_CHECKING

from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.errors import DamagedError, KernelUnavailableError, UnreachableError
from bpfmatrix.host.cache import Cache, Pruned
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.store import Store

if TYPE_CHECKING:
    from bpfmatrix.kernels.catalogue import Available, Offer

__all__ = [
    "KernelImage",
    "Package",
    "Provenance",
    "Pruned",
    "available",
    "cached",
    "newest_available",
    "provide",
    "prune",
    "refresh",
    "repair",
    "search",
    "update",
]


def cached(kernel: KernelConfig, cache: Cache) -> KernelImage | None:
    """Return the image that this kernel last resolved to, unverified, or None.

    Reads two small files; of a kernel that lies in a folder, it looks at that as well.
    """
    with contextlib.suppress(DamagedError, KernelUnavailableError):
        return _resolved(_at_hand(kernel, cache), cache)
    return None


def provide(
    kernel: KernelConfig, cache: Cache, progress: Progress = silent
) -> tuple[KernelImage, bool]:
    """Return the kernel's image, and whether it was cached.

    What is booted is verified each time; a damaged image is fetched again. Raises
    KernelUnavailableError where there is none and it can't be fetched.
    """
    from bpfmatrix.kernels.fetch import fetch  # noqa: PLC0415 - off the start-up path

    kernel = _at_hand(kernel, cache)
    # Without the lock, as most calls end here and several machines may start at once.
    if image := _verified(kernel, cache):
        return image, True
    with Store(cache).locked(kernel):
        if image := _verified(kernel, cache, progress):  # another process fetched it
            return image, True
        try:
            return fetch(kernel, cache, progress, same=True), False
        except UnreachableError:  # what was cached is damaged or gone
            placed = _by_hand(kernel)
            if placed is None:
                raise
    return provide(placed, cache, progress)


def repair(kernel: KernelConfig, cache: Cache, progress: Progress = silent) -> KernelImage:
    """Verify every file of the kernel, and fetch the same packages again if one is damaged.

    For where `KernelImage.read_modules` raised DamagedError: `provide` looks at what is booted
    and not at each module.
    """
    from bpfmatrix.kernels.fetch import fetch  # noqa: PLC0415 - off the start-up path

    store, kernel = Store(cache), _at_hand(kernel, cache)
    with store.locked(kernel):
        try:
            if image := _resolved(kernel, cache):
                image.verify()
                return image
        except DamagedError as error:
            progress(f"{kernel.id}: the cached kernel is damaged ({error.what}); fetching it again")
        return fetch(kernel, cache, progress, same=True)


def update(kernel: KernelConfig, cache: Cache, progress: Progress = silent) -> KernelImage:
    """Resolve the kernel again, and fetch it if its source has another one than what is cached."""
    from bpfmatrix.kernels.fetch import fetch  # noqa: PLC0415 - off the start-up path

    kernel = _in_folder(kernel) or kernel
    with Store(cache).locked(kernel):
        return fetch(kernel, cache, progress)


def newest_available(kernel: KernelConfig, cache: Cache) -> str | None:
    """Return the package version that this kernel would resolve to, or None where not known.

    This is by the index that was fetched last: no network is used (`search` fetches it).
    """
    from bpfmatrix.kernels import catalogue  # noqa: PLC0415 - off the start-up path

    return catalogue.newest(kernel, cache)


def search(config: Config, cache: Cache, text: str, progress: Progress = silent) -> "list[Offer]":
    """Return the kernel packages with `text` in their name or version, of all suites declared."""
    from bpfmatrix.kernels import catalogue  # noqa: PLC0415 - off the start-up path

    return catalogue.search(config, cache, text, progress)


def refresh(config: Config, cache: Cache, progress: Progress = silent) -> None:
    """Fetch what `newest_available` looks at."""
    from bpfmatrix.kernels import catalogue  # noqa: PLC0415 - off the start-up path

    catalogue.refresh(config, cache, progress)


def available(config: Config, cache: Cache, progress: Progress = silent) -> "Available":
    """Return an entry for every series that the declared apt suites have now."""
    from bpfmatrix.kernels import catalogue  # noqa: PLC0415 - off the start-up path

    return catalogue.available(config, cache, progress)


def prune(cache: Cache, everything: bool = False) -> list[Pruned]:
    """Remove the images that no kernel of any checkout points at (those that `update` left).

    The cache is shared, so a kernel of another checkout's kernels.yaml counts as well.
    `everything` removes all images and the indexes of apt and dnf: the next use fetches them again.
    """
    pruned = [
        Pruned(f"{folder.parent.name}/{folder.name}", size_bytes)
        for folder, size_bytes in Store(cache).prune(everything)
    ]
    if everything:
        for name in ("apt", "dnf"):
            shutil.rmtree(cache.root / name, ignore_errors=True)
    return pruned


def _in_folder(kernel: KernelConfig) -> KernelConfig | None:
    """Return the kernel with its file as its source, where KERN_DIR or its source is a folder."""
    from bpfmatrix.kernels.sources import directory  # noqa: PLC0415 - off the start-up path

    if placed := directory.in_kern_dir(kernel):
        return placed
    return directory.declared(kernel) if kernel.source.directory else None


def _at_hand(kernel: KernelConfig, cache: Cache) -> KernelConfig:
    """Return the kernel with the source that it is taken from: see `directory` for the order."""
    if placed := _in_folder(kernel):
        return placed
    if Store(cache).resolved_packages(kernel):
        return kernel
    return _by_hand(kernel) or kernel


def _by_hand(kernel: KernelConfig) -> KernelConfig | None:
    """Return the kernel with what `ci-kernels/` has for it as its source, or None."""
    from bpfmatrix.kernels.sources import directory  # noqa: PLC0415 - off the start-up path

    # What `build` makes lies in ci-kernels/ too, and it knows whether that is still current.
    return None if kernel.source.kind == "build" else directory.in_project(kernel)


def _resolved(kernel: KernelConfig, cache: Cache) -> KernelImage | None:
    """Return what the kernel resolved to, unless its file changed since."""
    from bpfmatrix.kernels.sources import directory  # noqa: PLC0415 - off the start-up path

    store = Store(cache)
    image = store.resolved(kernel)
    if image and kernel.source.directory and not directory.is_current(kernel, store, image):
        return None
    if image and kernel.source.build is not None:
        from bpfmatrix.kernels import build  # noqa: PLC0415 - off the start-up path

        return image if build.is_current(kernel, kernel.source.build, image) else None
    if image and kernel.source.package is not None:
        from bpfmatrix.kernels.sources.package import is_current  # noqa: PLC0415 - off the start-up path

        return image if is_current(kernel, kernel.source.package, image) else None
    return image


def _verified(
    kernel: KernelConfig, cache: Cache, progress: Progress = silent
) -> KernelImage | None:
    try:
        if image := _resolved(kernel, cache):
            image.verify_boot()
        return image
    except DamagedError as error:
        progress(f"{kernel.id}: the cached kernel is damaged ({error.what}); fetching it again")
        return None

"""The kernels of kernels.yaml as files that boot: cached, fetched, repaired, updated, pruned.

`provide` returns the image of a kernel: the cached one, verified, or else a freshly fetched one.
`placed_images` says where else an image may come from. A series stays on the release that it
resolved to until `update`.
"""

import contextlib
import shutil

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import DamagedError, KernelUnavailableError, UnreachableError
from bpfmatrix.host.cache import Cache, Pruned
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels import pinned, sources
from bpfmatrix.kernels.fetch import fetch
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.placed_images import in_kern_dir, in_project
from bpfmatrix.kernels.sources.directory import with_file_of_source
from bpfmatrix.kernels.store import Store

__all__ = ["cached", "check", "provide", "prune", "repair", "update"]


def cached(kernel: KernelConfig, cache: Cache) -> KernelImage | None:
    """Return the image that this kernel last resolved to, unverified, or None.

    Reads two small files. For a kernel in a folder, it also looks at the files there.
    """
    with contextlib.suppress(DamagedError, KernelUnavailableError):
        return _resolved(_with_local_source(kernel, cache), cache)
    return None


def check(kernel: KernelConfig, cache: Cache) -> None:
    """Ask the source of a kernel that is not cached whether it could be fetched; one small request.

    Raises what `provide` would raise for a source that does not answer. Nothing is changed.
    """
    kernel = _with_local_source(kernel, cache)
    if _resolved(kernel, cache) is not None:
        return
    if kernel.pin:
        pinned.check(kernel, cache)
    else:
        sources.of(kernel).check(cache)


def provide(
    kernel: KernelConfig, cache: Cache, progress: Progress = silent, *, reread: bool = False
) -> tuple[KernelImage, bool]:
    """Return the kernel's image, and whether it was cached.

    The file that is booted is verified each time; `reread` reads it even if its identity did not
    change (see `host.integrity`). A damaged image is fetched again. Raises KernelUnavailableError
    if there is none and it can't be fetched.
    """
    kernel = _with_local_source(kernel, cache)
    # Without the lock, as most calls end here and several machines may start at once.
    if image := _verified(kernel, cache, reread=reread):
        _announce_difference(kernel, image, cache, progress)
        return image, True
    store = Store(cache)
    with store.locked(kernel):
        # Another process may have fetched it.
        if image := _verified(kernel, cache, progress, reread=reread):
            return image, True
        if kernel.pin and (image := store.adopt(kernel)):
            return image, True
        if not kernel.pin and store.has_damaged_ref(kernel):
            announce(
                progress, f"{kernel.id}: the record of its release is damaged; resolving it again"
            )
        try:
            return fetch(kernel, cache, progress, same=True), False
        except UnreachableError:
            # The kernel is cached, so that `ci-kernels/` was not looked at, but it is damaged.
            placed = None if kernel.pin else in_project(kernel)
            if placed is None:
                raise
    return provide(placed, cache, progress, reread=reread)


def repair(kernel: KernelConfig, cache: Cache, progress: Progress = silent) -> KernelImage:
    """Verify every file of the kernel, and fetch the same packages again if one is damaged.

    This is for a DamagedError of `KernelImage.read_modules`: `provide` verifies the file that is
    booted, and not each module.
    """
    store, kernel = Store(cache), _with_local_source(kernel, cache)
    with store.locked(kernel):
        try:
            if image := _resolved(kernel, cache):
                image.verify()
                return image
        except DamagedError as error:
            _announce_damage(kernel, error, progress)
        return fetch(kernel, cache, progress, same=True)


def update(kernel: KernelConfig, cache: Cache, progress: Progress = silent) -> KernelImage:
    """Resolve the kernel again, and fetch it if its source has another one than what is cached."""
    kernel = _in_folder(kernel.plain) or kernel.plain  # whatever it is pinned to
    with Store(cache).locked(kernel):
        return fetch(kernel, cache, progress)


def prune(cache: Cache, everything: bool = False) -> list[Pruned]:
    """Remove the images that no kernel of any checkout resolves to (those that `update` replaced).

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
    """Return the kernel with its file as its source, if KERN_DIR has it or its source is a folder.

    Otherwise None.
    """
    if placed := in_kern_dir(kernel):
        return placed
    return with_file_of_source(kernel) if kernel.source.directory else None


def _with_local_source(kernel: KernelConfig, cache: Cache) -> KernelConfig:
    """Return the kernel with the source that it is taken from, in the order of `placed_images`.

    It has no profile any more: kernels are kept by their own ids.
    """
    kernel = kernel.plain
    if placed := in_kern_dir(kernel):
        return placed
    if pin := pinned.pin_of(kernel):
        return kernel.model_copy(update={"pin": pin})
    if placed := _in_folder(kernel):
        return placed
    if Store(cache).resolved_packages(kernel):
        return kernel
    return in_project(kernel) or kernel


def _resolved(kernel: KernelConfig, cache: Cache) -> KernelImage | None:
    """Return the image that the kernel resolved to, if it is still what its source has."""
    store = Store(cache)
    image = store.resolved(kernel)
    if kernel.pin:
        return image
    return image if image and sources.of(kernel).is_current(store, image) else None


def _verified(
    kernel: KernelConfig, cache: Cache, progress: Progress = silent, *, reread: bool
) -> KernelImage | None:
    try:
        if image := _resolved(kernel, cache):
            image.verify_boot(reread=reread)
        return image
    except DamagedError as error:
        _announce_damage(kernel, error, progress)
        return None


def _announce_difference(
    kernel: KernelConfig, image: KernelImage, cache: Cache, progress: Progress
) -> None:
    """Say so if the user has changed a kernel that was pinned, as the pinned one runs."""
    if kernel.pin and (what := sources.of(kernel).differs_from_pin(Store(cache), image)):
        announce(
            progress,
            f"{kernel.id}: {what}, and {image.version} runs, as pinned by kernels.lock "
            f"(`{command(f'kernels.update --kernel {kernel.id}')}` pins what is there)",
        )


def _announce_damage(kernel: KernelConfig, error: DamagedError, progress: Progress) -> None:
    what = f"{kernel.id}: the cached kernel is damaged ({error.what}); fetching it again"
    announce(progress, what)

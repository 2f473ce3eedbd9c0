"""From a kernel of kernels.yaml to a stored image: resolve, download, unpack, store.

One function for each kind of source; `fetch` chooses by the source's kind.
"""

from bpfmatrix.cache import Cache
from bpfmatrix.config import AptSource, KernelConfig
from bpfmatrix.errors import BpfmatrixError, DamagedError, KernelUnavailableError, UsageError
from bpfmatrix.kernels.apt import Archive, SuiteUnreachableError
from bpfmatrix.kernels.debian import choose, closure, default_pattern, unpack
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, is_disk_full, require_space
from bpfmatrix.progress import Progress

__all__ = ["apt_pattern", "fetch"]


def fetch(kernel: KernelConfig, cache: Cache, progress: Progress) -> KernelImage:
    """Resolve a kernel, store its image unless it is there, and let the kernel point at it.

    Every BpfmatrixError begins with the kernel's id. The caller holds the kernel's lock.
    """
    store = Store(cache)
    try:
        if kernel.source.apt is None:
            raise UsageError(
                f"the {kernel.source.kind} source comes with a later version of bpfmatrix",
                f"Until then give kernels.{kernel.id} an apt source, or choose one that has.",
            )
        image = _from_apt(kernel, kernel.source.apt, store, progress)
    except SuiteUnreachableError as error:
        raise _unreachable(kernel, store, error) from error
    except BpfmatrixError as error:
        raise type(error)(f"{kernel.id}: {error.what}", error.advice) from error
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise BpfmatrixError(
            f"{kernel.id}: no space was left in {cache.root} while the kernel was unpacked",
            "Free some space, let BPFMATRIX_CACHE name a larger disk, or `invoke kernels.prune`.",
        ) from error
    store.point(kernel, image)
    return image


def apt_pattern(kernel: KernelConfig, source: AptSource) -> str:
    """Return the package, or the pattern of packages, that a kernel's apt source means."""
    return source.package or default_pattern(kernel.id, kernel.arch)


def _from_apt(
    kernel: KernelConfig, source: AptSource, store: Store, progress: Progress
) -> KernelImage:
    archive = Archive.of_host(store.cache, source.suite, kernel.arch)
    with archive.locked():
        archive.update(progress)
        debs = archive.debs()
        wanted = closure(debs, choose(debs, apt_pattern(kernel, source), source.suite))
        packages = tuple(Package(deb.name, deb.version, deb.sha256) for deb in wanted)
        if image := _intact(store, kernel.arch, packages):
            return image
        require_space(
            store.cache.root,
            UNPACKED_KERNEL_BYTES + sum(deb.size_bytes + deb.installed_bytes for deb in wanted),
        )
        with store.cache.staging() as staging:
            (staging / "debs").mkdir()
            (staging / "root").mkdir()
            files = archive.download(wanted, staging / "debs", progress)
            progress(f"{kernel.id}: unpacking {wanted[0].name}")
            unpack(files, staging / "root")
            provenance = Provenance(f"apt {source.suite}", packages, archive.vendor())
            # A meta package may have a version of its own; what it leads to has the kernel's.
            version = wanted[-1].upstream_version
            return store.add(staging, kernel.arch, version, provenance, staging / "root")


def _intact(store: Store, arch: str, packages: tuple[Package, ...]) -> KernelImage | None:
    image = store.with_packages(arch, packages)
    try:
        if image:
            image.verify()
    except DamagedError:
        return None
    return image


def _unreachable(
    kernel: KernelConfig, store: Store, error: SuiteUnreachableError
) -> KernelUnavailableError:
    image = store.resolved(kernel)
    if image is None:
        so = "no kernel of this series is cached"
    else:
        try:
            image.verify()
            so = f"the cached {image.version} stays"
        except DamagedError as damage:
            so = f"the cached {image.version} is damaged ({damage.what})"
    return KernelUnavailableError(
        f"{kernel.id}: {error.what} and {so}", f"Try again with a network. {error.advice}"
    )

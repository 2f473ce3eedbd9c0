"""From a kernel of kernels.yaml to a stored image: resolve, download, unpack, store.

One function for each kind of source; `fetch` chooses by the source's kind.
"""

import contextlib
from functools import partial

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import AptSource, BuildSource
from bpfmatrix.errors import BpfmatrixError, DamagedError, UnreachableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.sources.apt import Archive
from bpfmatrix.kernels.sources.debian import Deb, default_pattern, resolve
from bpfmatrix.kernels.sources.directory import fetch_file, modules_of
from bpfmatrix.kernels.sources.dnf import fetch_rpms
from bpfmatrix.kernels.sources.package import fetch_files, unpack
from bpfmatrix.kernels.staging import install
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, is_disk_full, require_space

__all__ = ["apt_pattern", "fetch"]


def fetch(
    kernel: KernelConfig, cache: Cache, progress: Progress, same: bool = False
) -> KernelImage:
    """Resolve a kernel, store its image unless it is there, and let the kernel point at it.

    `same` asks for the packages that it resolved to before, if its source still has them. Every
    BpfmatrixError begins with the kernel's id. The caller holds the kernel's lock.
    """
    store = Store(cache)
    try:
        return _from_source(kernel, store, progress, same)
    except UnreachableError as error:
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
            "Free some space, let BPFMATRIX_CACHE name a larger disk, or `invoke kernels.prune`.",
        ) from error


def _from_source(kernel: KernelConfig, store: Store, progress: Progress, same: bool) -> KernelImage:
    source = kernel.source
    if source.apt is not None:
        return _from_apt(kernel, source.apt, store, progress, same)
    if source.dnf is not None:
        return fetch_rpms(kernel, source.dnf, store, progress, same)
    if source.package is not None:
        return fetch_files(kernel, source.package, store, progress)
    if source.directory is not None:
        return fetch_file(kernel, store, progress)
    if source.oci is not None:
        from bpfmatrix.kernels.oci import pull  # noqa: PLC0415 - oras takes a quarter of a second

        return pull.fetch_image(kernel, pull.Reference.parse(source.oci), store, progress, same)
    assert source.build is not None
    return _from_build(kernel, source.build, store, progress, same)


def apt_pattern(kernel: KernelConfig, source: AptSource) -> str:
    """Return the package, or the pattern of packages, that a kernel's apt source means."""
    return source.package or default_pattern(kernel.id, kernel.arch)


def _from_apt(
    kernel: KernelConfig, source: AptSource, store: Store, progress: Progress, same: bool
) -> KernelImage:
    archive = Archive.of(store.cache, kernel, source)
    with contextlib.ExitStack() as held:
        held.enter_context(archive.locked())
        archive.update(progress)
        debs = archive.debs()
        wanted = _again(debs, store.resolved_packages(kernel)) if same else ()
        if not wanted:
            wanted = resolve(debs, apt_pattern(kernel, source), source.suite)
        packages = tuple(Package(deb.name, deb.version, deb.sha256) for deb in wanted)
        image = store.intact(kernel.arch, packages)
        if image and store.point(kernel, image):
            return image
        require_space(
            store.cache.root,
            UNPACKED_KERNEL_BYTES + sum(deb.size_bytes + deb.installed_bytes for deb in wanted),
        )
        provenance = Provenance(f"apt {source.suite}", packages, archive.vendor())
        with store.cache.staging() as staging:
            (staging / "debs").mkdir()
            (staging / "root").mkdir()
            files = archive.download(wanted, staging / "debs", progress)
            held.close()  # another kernel of this suite need not wait for the unpacking
            progress(f"{kernel.id}: unpacking {wanted[0].name}")
            unpack(files, staging / "root")
            # A meta package may have a version of its own; what it leads to has the kernel's.
            return store.add(kernel, staging, wanted[-1].upstream_version, provenance)


def _from_build(
    kernel: KernelConfig, source: BuildSource, store: Store, progress: Progress, same: bool
) -> KernelImage:
    """Build the kernel, unless `same` and it was built for the same source and fragments."""
    from bpfmatrix.kernels import build  # noqa: PLC0415 - off the start-up path

    built = build.existing(source, kernel.arch, kernel.root) if same else None
    if built is None:
        built = build.build(source, kernel.arch, kernel.root, store.cache, progress)
    vmlinuz = built.folder / "vmlinuz"
    require_space(store.cache.root, UNPACKED_KERNEL_BYTES)
    with store.cache.staging() as staging:
        root = staging / "root"
        root.mkdir()
        modules = partial(modules_of, vmlinuz)
        install(vmlinuz, f"the kernel in {built.folder}", modules, built.folder / "config", root)
        provenance = Provenance(f"built from {built.source}", built.packages)
        return store.add(kernel, staging, built.version, provenance)


def _again(debs: list[Deb], packages: tuple[Package, ...]) -> tuple[Deb, ...]:
    """Return the index's entries of these very packages, or nothing if one of them is gone."""
    by_checksum = {deb.sha256: deb for deb in debs}
    found = tuple(by_checksum[p.sha256] for p in packages if p.sha256 in by_checksum)
    return found if len(found) == len(packages) else ()


def _unreachable(kernel: KernelConfig, store: Store, error: UnreachableError) -> UnreachableError:
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
    place = f"ci-kernels/{kernel.id}/vmlinuz"
    ways = f"or put an image into {place}."
    if kernel.source.oci is not None:
        ways = (
            "or get it in one of three other ways: name an apt source for it in kernels.yaml, run "
            f"`invoke kernels.build {kernel.id}`, or put an image into {place} or below KERN_DIR."
        )
    return UnreachableError(
        f"{kernel.id}: {error.what} and {so}.",
        f"Try again with a network, {ways} {error.advice}".strip(),
    )

"""The `directory` source: a kernel image in a folder of this host.

The image is copied into the store, and copied again when one of its files changed.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import versions
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import RunningSha256, sha256_of
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.formats.vmlinuz import Vmlinuz, inspect
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.image_files import (
    BOOT_NAMES,
    config_of,
    every,
    find,
    is_release_of,
    modules_of,
)
from bpfmatrix.kernels.sources.source import KernelSource, PointRelease
from bpfmatrix.kernels.staging import install, upstream_version
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space

__all__ = ["DirectoryKernel", "releases_in", "with_file", "with_file_of_source"]


class DirectoryKernel(KernelSource):
    """A kernel whose source is one file: see `with_file_of_source`."""

    @property
    def file(self) -> Path:
        """The image."""
        assert self.kernel.source.directory is not None
        return self.kernel.source.directory

    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """See KernelSource."""
        name = _shown(self.file, self.kernel.root)
        progress(f"{self.kernel.id}: copying {name}")
        try:
            before = self.file.stat()
            # The largest is a vmlinux with debug information, stored once more if compressed.
            require_space(store.cache.root, UNPACKED_KERNEL_BYTES + 2 * before.st_size)
            with store.cache.staging() as staging:
                root = staging / "root"
                root.mkdir()
                config = config_of(self.file)
                found = install(self.file, name, partial(modules_of, self.file), config, root)
                _require_release(self.kernel.id, found, name)
                stamp = _stamp(self.file, found.release)
                after = self.file.stat()
                if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
                    raise BpfmatrixError(f"{name} changed while it was copied", "Try again.")
                package = Package(name, found.release, sha256_of(root / "vmlinuz"))
                provenance = Provenance(f"directory {name}", (package,))
                version = upstream_version(found)
                return store.add(self.kernel, staging, version, provenance, stamp)
        except PermissionError as error:
            raise KernelUnavailableError(
                f"{error.filename} can't be read ({error.strerror})", "Let this user read it."
            ) from error

    def check(self, cache: Cache) -> None:
        """See KernelSource: nobody is to be asked, as the file is there."""

    def differs_from_pin(self, store: Store, image: KernelImage) -> str:
        """See KernelSource."""
        try:
            found = with_file_of_source(self.kernel).source.directory
            assert found is not None
            # The stamp is known if the file was read before; else it is read now.
            stamp = _stamp(found, image.release)
            if stamp == store.stamp(self.kernel):
                return ""
            if f"sha256:{sha256_of(found)}" != image.digest:
                return f"{_shown(found, self.kernel.root)} is another one now"
        except (KernelUnavailableError, OSError):
            return ""  # the file may be on another machine, or is not for this user
        with contextlib.suppress(BpfmatrixError, OSError):  # a cache that can only be read
            store.point(self.kernel, image, stamp)
        return ""

    def is_current(self, store: Store, image: KernelImage) -> bool:
        """Whether no file of the kernel changed since it was copied."""
        return _stamp(self.file, image.release) == store.stamp(self.kernel)


def releases_in(folder: Path, problems: list[str]) -> Iterator[tuple[str, PointRelease]]:
    """Give the kernels in a folder, each with its architecture; OSError if it can't be read.

    Files whose names are like those of kernels, and that are none, are passed over. So are files
    that can't be read, with a sentence that is added to `problems`.
    """
    for file in every(folder):
        try:
            found = inspect(file.read_bytes(), str(file))
        except BpfmatrixError:
            continue
        except OSError as error:
            problems.append(f"{file} can't be read ({error.strerror})")
            continue
        yield found.arch, PointRelease(upstream_version(found), Source(directory=file.absolute()))


def with_file(kernel: KernelConfig, file: Path | None) -> KernelConfig | None:
    """Return the kernel with a file as its source; None if there is no file."""
    if file is None:
        return None
    return kernel.model_copy(update={"source": Source(directory=file.absolute())})


def with_file_of_source(kernel: KernelConfig) -> KernelConfig:
    """Return a kernel whose source is a folder with the file in that folder as its source.

    KernelUnavailableError if the folder has no such kernel.
    """
    assert kernel.source.directory is not None
    place = kernel.root / kernel.source.directory
    found = with_file(kernel, find(place, kernel.id))
    if found is None:
        what = f"there is no kernel for it in {place}" if place.is_dir() else f"there is no {place}"
        raise KernelUnavailableError(
            f"{kernel.id}: {what}",
            f"Expected: {kernel.id}/vmlinuz, linux-{kernel.id}.bz, vmlinuz-RELEASE, or one of "
            f"{', '.join(BOOT_NAMES)}.",
        )
    return found


def _require_release(id: str, found: Vmlinuz, name: str) -> None:
    """BpfmatrixError if the id begins with a version, and the kernel has another one.

    The upstream version counts as well as the release, which does not always contain it.
    """
    said = (found.release, upstream_version(found))
    if versions.leading_version(id) and not any(is_release_of(id, each) for each in said):
        raise BpfmatrixError(
            f"{name} is release {found.release}, and not {id}",
            "Put it where its own release is looked for, or give the kernel another id.",
        )


def _stamp(file: Path, release: str) -> str:
    """Return a digest of the names, sizes and times of the kernel's files; "" if one is gone."""
    digest = RunningSha256()
    for path in (file, *modules_of(file, release).values()):
        try:
            info = path.stat()
        except OSError:
            return ""
        digest.update(f"{path} {info.st_size} {info.st_mtime_ns} {info.st_ino}\n".encode())
    return digest.hexdigest()


def _shown(file: Path, root: Path) -> str:
    """Return the name of a file for people: relative to the project if it lies in there."""
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)

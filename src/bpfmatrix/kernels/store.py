"""The store of kernel images in the cache: one for all checkouts of a host.

    kernels/<arch>/<release>-<digest>/   a KernelImage: `kernel.json` and its files
    refs/<arch>/<id>-<source>.json       a ref: the image that a kernel of kernels.yaml resolved to

An image appears by one rename when it is complete. Refs keep a series on its release until it is
updated, without any network. A kernel that kernels.lock pins has a ref of its own in each
checkout, as two checkouts may pin different kernels; it points only to the pinned kernel.
"""

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.config import kernels_lock
from bpfmatrix.config.kernels_lock import Pin
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError, DamagedError, KernelUnavailableError
from bpfmatrix.host import records
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.host.front_end import command
from bpfmatrix.kernels.formats.vmlinuz import inspect
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.staging import require_release

__all__ = ["Store"]

# The space for an unpacked vmlinux and depmod's files: an estimate, to refuse early.
UNPACKED_KERNEL_BYTES = 100 << 20

# The lock for adding and removing: nobody may remove a new image before its ref is written.
_LOCK = "store"


@dataclass(frozen=True)
class Store:
    """The kernels in a cache."""

    cache: Cache

    @contextlib.contextmanager
    def locked(self, kernel: KernelConfig) -> Iterator[None]:
        """Keep other processes from resolving the same kernel at the same time."""
        with self.cache.lock(f"ref-{kernel.arch}-{self._ref(kernel).stem}"):
            yield

    def folders(self) -> list[Path]:
        """Return the folder of every image, readable or not."""
        return sorted(self._folder("kernels").glob("*/*"))

    def images(self) -> Iterator[KernelImage]:
        """Give every readable image."""
        for folder in self.folders():
            with contextlib.suppress(DamagedError):
                yield KernelImage.load(folder)

    def resolved(self, kernel: KernelConfig) -> KernelImage | None:
        """Return the image that this kernel resolved to last, unverified.

        None if it never resolved to one, if that image was removed, or if the ref is damaged.
        DamagedError if the image's description can't be read.
        """
        ref = self._read_ref(kernel)
        if ref is None or not ref[0].exists():
            return None
        image = KernelImage.load(ref[0])
        # Refs of earlier versions have no checksum.
        return image if image.provenance.packages == ref[1] else None

    def has_damaged_ref(self, kernel: KernelConfig) -> bool:
        """Tell whether there is a ref of this kernel that can't be used."""
        return self._ref(kernel).exists() and self._read_ref(kernel) is None

    def resolved_packages(self, kernel: KernelConfig) -> tuple[Package, ...]:
        """Return the packages that this kernel resolved to last, even if the image is damaged.

        Those of a pinned kernel are always the pinned ones.
        """
        if kernel.pin:
            return kernel.pin.packages
        ref = self._read_ref(kernel)
        return ref[1] if ref else ()

    def stamp(self, kernel: KernelConfig) -> str:
        """Return the `stamp` that was given to `add`, or "" if there was none."""
        return str((_read(self._ref(kernel)) or {}).get("stamp", ""))

    def point(self, kernel: KernelConfig, image: KernelImage, stamp: str = "") -> bool:
        """Let this kernel resolve to that image; False if the image was removed in the meantime.

        `stamp` is that of `add`. KernelUnavailableError if the kernel is pinned to another one.
        """
        if kernel.pin:
            _require_pinned(image, kernel.pin)
        with self.cache.lock(_LOCK):
            return image.folder.exists() and self._point(kernel, image, stamp)

    def intact(
        self, kernel: KernelConfig, is_wanted: Callable[[Provenance], bool]
    ) -> KernelImage | None:
        """Return the undamaged image of a provenance that `kernel` may resolve to, if there is one.

        Not one of a registry: that it came from these packages is only what the kernels.lock of
        some checkout says. Only `adopt` gives those.
        """
        for image in self.images():
            if image.arch != kernel.arch or image.provenance.registry:
                continue
            with contextlib.suppress(DamagedError):
                if is_wanted(image.provenance) and not (
                    kernel.pin and _difference(image, kernel.pin)
                ):
                    image.verify()
                    return image
        return None

    def adopt(self, kernel: KernelConfig) -> KernelImage | None:
        """Let a pinned kernel resolve to its image, if that is stored and undamaged."""
        pin = kernel.pin
        assert pin is not None
        for image in self.images():
            if (image.arch, image.digest) != (pin.arch, pin.digest):
                continue
            with contextlib.suppress(DamagedError):
                image.verify()
                if _is_of_same_origin(image.provenance, pin) and not _difference(image, pin):
                    return image if self.point(kernel, image) else None
        return None

    def add(
        self,
        kernel: KernelConfig,
        staging: Path,
        version: str,
        provenance: Provenance,
        stamp: str = "",
    ) -> KernelImage:
        """Store a kernel, and let `kernel` resolve to it.

        `staging` is a folder with a staging root: a folder `root` with `vmlinuz` and perhaps
        `lib/modules/<release>`, which is moved into the store. A (damaged) image of the same
        content and provenance is replaced. `stamp` is kept for the source, which can tell by it
        whether its files changed. BpfmatrixError if `vmlinuz` is no kernel of the architecture;
        KernelUnavailableError if the kernel is pinned to another one.
        """
        root = staging / "root"
        image = _described(root, kernel.arch, version, provenance)
        if kernel.pin:
            _require_pinned(image, kernel.pin)
        name = f"{_file_name(image.release)}-{image.store_digest()}"
        target = self._folder("kernels") / kernel.arch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.cache.lock(_LOCK):
            if target.exists():
                target.rename(staging / "replaced")
            root.rename(target)
            image = KernelImage.load(target)
            self._point(kernel, image, stamp)
        return image

    def prune(self, everything: bool) -> list[tuple[Path, int]]:
        """Remove the images without a ref, or all; return their folders and sizes in bytes.

        Refs of pins go with the kernels.lock that has them.
        """
        with self.cache.lock(_LOCK), self.cache.staging() as staging:
            if everything:
                shutil.rmtree(self._folder("refs"), ignore_errors=True)
            kept, removed = self._referenced(), []
            for folder in self.folders():
                if folder not in kept:
                    files = (path for path in folder.rglob("*") if path.is_file())
                    removed.append((folder, sum(path.stat().st_size for path in files)))
                    folder.rename(staging / f"{len(removed)}")
        return removed

    def _referenced(self) -> set[Path]:
        """Return the images that a ref points to; remove the refs of pins that are gone."""
        folders = set()
        for path in self._folder("refs").glob("*/*.json"):
            ref = _read(path) or {}
            with contextlib.suppress(KeyError, TypeError):
                if (root := ref.get("pinned_in")) and not _may_have_lock(Path(root)):
                    path.unlink()
                    continue
                folders.add(self.cache.root / ref["image"])
        return folders

    def _point(self, kernel: KernelConfig, image: KernelImage, stamp: str = "") -> bool:
        ref = self._ref(kernel)
        data = {
            "id": kernel.id,
            "source": kernel.source.model_dump(mode="json", exclude_unset=True),
            "image": str(image.folder.relative_to(self.cache.root)),
            "packages": [asdict(package) for package in image.provenance.packages],
            "stamp": stamp,
            # Whose pin it is, so that `prune` knows when the checkout is gone.
            "pin": kernel.pin.key if kernel.pin else "",
            "pinned_in": str(kernel.root) if kernel.pin else "",
        }
        ref.parent.mkdir(parents=True, exist_ok=True)
        records.write(ref, data)
        return True

    def _read_ref(self, kernel: KernelConfig) -> tuple[Path, tuple[Package, ...]] | None:
        try:
            ref = _read(self._ref(kernel)) or {}
            if kernel.pin and ref["pin"] != kernel.pin.key:
                return None  # kernels.lock pinned another kernel then
            folder = self.cache.root / ref["image"]
            return folder, tuple(Package(**package) for package in ref["packages"])
        except (KeyError, TypeError):
            return None  # a damaged ref counts as none

    def _folder(self, name: str) -> Path:
        return self.cache.root / name

    def _ref(self, kernel: KernelConfig) -> Path:
        source = kernel.source.model_dump_json(exclude_unset=True)
        key = sha256(f"pinned in {kernel.root}" if kernel.pin else source)[:12]
        return self._folder("refs") / kernel.arch / f"{_file_name(kernel.id)}-{key}.json"


def _read(ref: Path) -> dict[str, Any] | None:
    return records.read(ref) or records.read_unsealed(ref)


def _may_have_lock(root: Path) -> bool:
    """Whether a checkout has a kernels.lock, or can't be looked at."""
    try:
        return kernels_lock.exists(root)
    except OSError:
        return True


def _require_pinned(image: KernelImage, pin: Pin) -> None:
    """KernelUnavailableError if an image is not exactly what is pinned."""
    if difference := _difference(image, pin):
        raise KernelUnavailableError(
            f"{difference} of {kernels_lock.FILE_NAME}",
            f"Either it was changed where it comes from, or {kernels_lock.FILE_NAME} was edited.",
        )


def _difference(image: KernelImage, pin: Pin) -> str:
    """Say in what an image is not what is pinned, or "" if it is; DamagedError."""
    for what, found, pinned in (
        ("the kernel of {} has the digest", image.digest, pin.digest),
        (
            "the configuration and the modules of the kernel of {} have the digest",
            image.files_digest(),
            pin.files,
        ),
        ("the kernel of {} has the release", image.release, pin.release),
        ("the kernel of {} has the version", image.version, pin.version),
    ):
        if found != pinned:
            name = image.provenance.packages[0].name
            return f"{what.format(name)} {found}, and not {pinned}"
    return ""


def _is_of_same_origin(provenance: Provenance, pin: Pin) -> bool:
    """Whether an image is from the packages that are pinned.

    The source and the vendor of one of a registry are what the kernels.lock of some checkout says,
    so that they have to be the same. Else, the source said it: packages may be in two suites.
    """
    if provenance.registry:
        return provenance == Provenance(pin.origin, pin.packages, pin.vendor)
    return provenance.packages == pin.packages


def require_space(folder: Path, needed_bytes: int) -> None:
    """BpfmatrixError if the file system of `folder` has less than this left."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise BpfmatrixError(
            f"the cache needs {needed_bytes >> 20} MB and {folder} has {free >> 20} MB left",
            "Free some space, let BPFMATRIX_CACHE name a larger disk, or run "
            f"`{command('kernels.prune')}`.",
        )


def _described(root: Path, arch: str, version: str, provenance: Provenance) -> KernelImage:
    """Turn the staging root into an image: unpack the kernel, write the description."""
    vmlinuz = root / "vmlinuz"
    name = f"the kernel of {provenance.packages[0].name}"
    found = inspect(vmlinuz.read_bytes(), name)
    require_release(found.release, name)
    if found.arch != arch:
        raise BpfmatrixError(
            f"the kernel of {provenance.packages[0].name} is for {found.arch}, not for {arch}",
            "Name another package, or set `arch` in kernels.yaml.",
        )
    boot = vmlinuz
    if found.unpacked is not None and len(found.unpacked) != vmlinuz.stat().st_size:
        boot = root / ("vmlinux" if found.pvh else "Image")
        boot.write_bytes(found.unpacked)
    modules = root / "lib/modules" / found.release
    image = KernelImage(
        arch=arch,
        release=found.release,
        version=version,
        digest=f"sha256:{sha256_of(vmlinuz)}",
        boot=boot,
        pvh=found.pvh,
        vmlinuz=vmlinuz,
        modules=modules if modules.is_dir() else None,
        provenance=provenance,
    )
    image.describe()
    return image


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+~-]", "_", text)


def is_disk_full(error: OSError) -> bool:
    """Whether this is what a full disk, or a full quota, raises."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)

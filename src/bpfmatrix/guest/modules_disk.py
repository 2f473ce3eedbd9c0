"""A disk with all modules of a kernel, for guests that load them on demand."""

import os
import shutil
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import derived, ext4
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage

__all__ = ["image_of"]

# Nearly all kernels have modules of less than this: their machines then have the same shape.
_IMAGE_BYTES = 1 << 30


def image_of(
    image: KernelImage, cache: Cache, progress: Progress = silent, *, reread: bool = False
) -> Path:
    """Return the ext4 image with the kernel's `lib/modules/<release>`; it is made if it is missing.

    BpfmatrixError if the kernel has no modules, DamagedError if one of them changed in the store.
    """
    modules = image.modules
    if modules is None:
        raise BpfmatrixError(
            f"the kernel {image.version} came without modules, so it can't load them on demand",
            "Remove `modules: all` from kernels.yaml for this kernel.",
        )

    def make(target: Path) -> None:
        progress(f"packing the modules of {image.release}")
        image.verify()
        with cache.staging() as staging:
            root = staging / "root"
            shutil.copytree(modules, root, symlinks=True, copy_function=_link)
            root.chmod(0o755)
            files = [path for path in modules.rglob("*") if path.is_file()]
            content = sum(path.stat().st_size for path in files)
            size = ext4.size_for(content, len(files), _IMAGE_BYTES)
            ext4.make(root, target, size, "the disk of the modules", error=BpfmatrixError)

    # The store names a kernel's folder by its content.
    target = cache.root / "modules" / f"{image.folder.name}.ext4"
    name = f"the disk with the modules of {image.release}"
    return derived.obtain(cache, target, name, make, progress, reread=reread, holes=True)


def _link(source: str, target: str) -> None:
    """Give a file a second name, which is quicker than a copy, if both are on one file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)

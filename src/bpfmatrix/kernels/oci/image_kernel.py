"""The kernel in a container image: which of its files are wanted, and what they are.

The files are those of cilium/ci-kernels (`boot/` and `lib/modules/`), and the same folders below
`data/kernels/<name>/`, as in little-vm-helper's images.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image_files import BOOT_NAMES
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space
from bpfmatrix.oci import layers
from bpfmatrix.oci.image import OciImage
from bpfmatrix.oci.layers import ImageFile, ImageFolder, ImageNode, printable

__all__ = ["ImageKernel", "fetched", "find_kernel", "unpack"]

_WANTED = re.compile(
    r"(data/kernels/[^/]+/)?"
    r"(boot/(vmlinu[xz]|bzImage|Image|config)[^/]*|(usr/)?lib/modules/.+)"
)
# The largest published kernel images unpack to some 1.5 GB. An image that unpacks to more than this
# limit is damaged or hostile.
LIMIT_BYTES = 8 << 30
# A layer is on the disk as it is fetched, once unpacked, and once more with uncompressed modules.
# Compressed kernels and modules, which such images consist of, get about three times as large.
_TIMES_UNPACKED = 7


@dataclass(frozen=True)
class ImageKernel:
    """The parts of an image that make a kernel."""

    vmlinuz: Path
    name: str
    """Its path in the image."""
    config: Path | None
    lib_modules: ImageFolder | None

    def modules(self, release: str) -> Mapping[str, Path]:
        """Return the files of `lib/modules/<release>`."""
        own = self.lib_modules.names.get(release) if self.lib_modules else None
        return dict(own.files()) if isinstance(own, ImageFolder) else {}


@contextlib.contextmanager
def fetched(
    image: OciImage, id: str, name: str, store: Store, progress: Progress
) -> Iterator[tuple[Path, ImageKernel]]:
    """Fetch an image, and give a staging folder with an empty `root`, and the kernel beside it.

    `id` is that of the kernel, `name` the image's for messages. BpfmatrixError says why that can't
    be done.
    """
    require_space(store.cache.root, UNPACKED_KERNEL_BYTES + _TIMES_UNPACKED * image.size_bytes)
    with store.cache.staging() as staging:
        for folder in ("layers", "files", "root"):
            (staging / folder).mkdir()
        paths = image.download(staging / "layers", progress)
        progress(f"{id}: unpacking {name}")
        yield staging, find_kernel(unpack(paths, staging / "files"), id)


def unpack(paths: Sequence[Path], folder: Path) -> ImageFolder:
    """Merge the layers of an image, the lowest first, and extract what a kernel needs.

    BpfmatrixError says why that can't be done: see `layers.merge`.
    """
    return layers.merge(
        paths, folder, lambda path: _WANTED.fullmatch(path) is not None, LIMIT_BYTES
    )


def find_kernel(image: ImageFolder, wanted: str) -> ImageKernel:
    """Return the kernel of an image; if there are several, the one of the release `wanted`."""
    kernels = image.resolve("data/kernels")
    names = sorted(kernels.names) if isinstance(kernels, ImageFolder) else []
    found = [
        kernel
        for base in ("", *(f"data/kernels/{name}/" for name in names))
        for kernel in _kernels_at(image, base)
    ]
    if not found:
        raise KernelUnavailableError(
            "there is no kernel in the image",
            "Expected: boot/vmlinuz, boot/vmlinux, or data/kernels/NAME/boot/vmlinuz-RELEASE.",
        )
    if len(found) > 1:
        found = [
            k for k in found if re.search(rf"(^|[-/]){re.escape(wanted)}(?!\d)", k.name)
        ] or found
    if len(found) > 1:
        raise KernelUnavailableError(
            f"there are several kernels in the image: {', '.join(k.name for k in found)}",
            "Let the id in kernels.yaml begin with the release of one of them.",
        )
    return found[0]


def _kernels_at(image: ImageFolder, base: str) -> Iterator[ImageKernel]:
    """Give the kernel `boot/vmlinuz`, or else each kernel with a release in its name."""
    boot = image.resolve(f"{base}boot")
    there = sorted(boot.names) if isinstance(boot, ImageFolder) else []
    plain = [name for name in BOOT_NAMES if name in there]
    named = [name for kind in ("vmlinuz-", "vmlinux-") for name in there if name.startswith(kind)]
    modules = image.resolve(f"{base}lib/modules") or image.resolve(f"{base}usr/lib/modules")
    seen: set[str] = set()
    for name in plain[:1] or named:
        release = name.partition("-")[2]
        vmlinuz = _content(image.resolve(f"{base}boot/{name}"))
        if vmlinuz is None or release in seen:
            continue
        seen.add(release)
        config = image.resolve(f"{base}boot/config{'-' if release else ''}{release}")
        yield ImageKernel(
            vmlinuz,
            printable(f"{base}boot/{name}", 400),
            _content(config),
            modules if isinstance(modules, ImageFolder) else None,
        )


def _content(node: ImageNode | None) -> Path | None:
    """Return the content of an extracted file; None for all else."""
    return node.content if isinstance(node, ImageFile) else None

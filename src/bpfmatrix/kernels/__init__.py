"""Kernels, from where their sources have them to files that boot.

- sources, oci, build: where a kernel of kernels.yaml comes from, one class for each source
- catalogue: what the sources offer; series: all series and releases of the declared apt suites
- pinned: kernels that kernels.lock pins to a release
- provision: images are cached, fetched, repaired, updated, pruned
- placed_images: images that a user placed, by KERN_DIR and in ci-kernels/
- image_option: the option --image
- store, image: where images are kept, and what an image is; staging: how one is put together
- formats: what is in a vmlinuz
- symbols: vmlinux and source trees, for debuggers and call traces
"""

from bpfmatrix.host.cache import Pruned
from bpfmatrix.kernels.catalogue import newest_available, refresh, search
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.provision import cached, check, provide, prune, repair, update

__all__ = [
    "KernelImage",
    "Package",
    "Provenance",
    "Pruned",
    "cached",
    "check",
    "newest_available",
    "provide",
    "prune",
    "refresh",
    "repair",
    "search",
    "update",
]

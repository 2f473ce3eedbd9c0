"""Kernels, from where their sources have them to files that boot.

sources, oci, build   where a kernel of kernels.yaml comes from: one class for each source
catalogue             what the sources offer
provision             cached, fetched, repaired, updated, pruned
placed_images         images that a user placed: KERN_DIR and ci-kernels/
image_option          the option --image
store, image          where images are kept, and what an image is
staging               how an image is put together
formats               what is in a vmlinuz
symbols               vmlinux and source trees, for debuggers and call traces
"""

from bpfmatrix.host.cache import Pruned
from bpfmatrix.kernels.catalogue import available, newest_available, refresh, search
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.provision import cached, provide, prune, repair, update

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

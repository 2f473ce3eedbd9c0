"""Kernel images that a user placed by hand: below `KERN_DIR`, and in `ci-kernels/` of the project.

For a kernel of kernels.yaml, `provision.provide` looks in this order:

1. in the folder that the environment variable `KERN_DIR` names, whatever the kernel's source is;
2. in the folder that is its source, or in the store, for what is cached of its source;
3. in `ci-kernels/` of the project;
4. at its source, over the network.

So what this host has needs no network, and a placed image does not silently take the place of a
declared kernel that was fetched before.
"""

import os
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import UsageError
from bpfmatrix.kernels.image_files import find
from bpfmatrix.kernels.sources.directory import with_file

__all__ = ["PROJECT_FOLDER", "VARIABLE", "in_kern_dir", "in_project"]

VARIABLE = "KERN_DIR"
PROJECT_FOLDER = "ci-kernels"


def in_kern_dir(kernel: KernelConfig) -> KernelConfig | None:
    """Return the kernel with its image below KERN_DIR as its source, or None if there is none.

    A relative KERN_DIR is relative to the working directory. UsageError if there is no such folder.
    """
    name = os.environ.get(VARIABLE)
    if not name or kernel.exact:
        return None
    folder = Path(name).expanduser().absolute()
    if not folder.exists():
        raise UsageError(
            f"{VARIABLE} names {name}, which does not exist", f"Unset {VARIABLE}, or correct it."
        )
    return with_file(kernel, find(folder, kernel.id))


def in_project(kernel: KernelConfig) -> KernelConfig | None:
    """Return the kernel with its image in `ci-kernels/` as its source, or None if there is none."""
    # `invoke kernels.build` writes to ci-kernels/ too, and knows whether its result is current.
    if kernel.source.kind == "build":
        return None
    return with_file(kernel, find(kernel.root / PROJECT_FOLDER, kernel.id, alone=False))

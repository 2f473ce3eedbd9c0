"""Where kernels come from: one class for each key of `source` in kernels.yaml.

A further source is a key of `config.sources.Source`, a module with a subclass of `KernelSource`,
and a line in `_CLASSES`.
"""

from importlib import import_module
from typing import cast

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.kernels.sources.source import IndexedSource, KernelSource, Offer, PointRelease

__all__ = ["IndexedSource", "KernelSource", "Offer", "PointRelease", "of"]

# By name, as importing all of them would delay the boot of a cached kernel.
_CLASSES = {
    "apt": "bpfmatrix.kernels.sources.apt:AptKernel",
    "dnf": "bpfmatrix.kernels.sources.dnf:DnfKernel",
    "package": "bpfmatrix.kernels.sources.package:PackageKernel",
    "oci": "bpfmatrix.kernels.oci.source:OciKernel",
    "directory": "bpfmatrix.kernels.sources.directory:DirectoryKernel",
    "build": "bpfmatrix.kernels.build.source:BuildKernel",
}


def of(kernel: KernelConfig) -> KernelSource:
    """Return the source of a kernel."""
    module, _, name = _CLASSES[kernel.source.kind].partition(":")
    return cast("KernelSource", getattr(import_module(module), name)(kernel))

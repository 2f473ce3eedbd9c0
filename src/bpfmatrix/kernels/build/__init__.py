"""Kernels built from source: sources, configuration, make, and the result in `ci-kernels/`."""

from bpfmatrix.kernels.build.builder import build, estimated_minutes
from bpfmatrix.kernels.build.result import BuiltKernel, existing
from bpfmatrix.kernels.build.source import build_source

__all__ = ["BuiltKernel", "build", "build_source", "estimated_minutes", "existing"]

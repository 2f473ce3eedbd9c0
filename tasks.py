"""The tasks of this checkout: those of every project with a kernels.yaml, and `docs`."""

from bpfmatrix.tasks import namespace

__all__ = ["namespace"]

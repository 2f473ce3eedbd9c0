"""The tasks of invoke: `invoke run --kernel 6.1`."""

from bpfmatrix.tasks import namespace

__all__ = ["namespace"]

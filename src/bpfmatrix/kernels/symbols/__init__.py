"""What debuggers and call traces read: a kernel's vmlinux, its source tree, and its symbols."""

from bpfmatrix.kernels.symbols.debug_info import (
    Symbols,
    at_hand,
    fetchable,
    get,
    names_file,
    prune,
)

__all__ = ["Symbols", "at_hand", "fetchable", "get", "names_file", "prune"]

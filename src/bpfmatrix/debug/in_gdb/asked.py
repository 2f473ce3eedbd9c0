"""Which program is being loaded, and whether it is one that was asked for.

Loaders load programs of their own, to probe the kernel, some of which have names.
"""

import gdb
from bpfmatrix_in_gdb import loads


def only(names):
    """Let the breakpoints of the verifier stop only at programs with these names."""
    loads.only(names)


def is_asked():
    """Whether the program that is being verified was asked for, or any program is."""
    load = loads.current()
    return load is not None and load.is_asked


class _Asked(gdb.Function):
    """$_bpf_asked(): whether the program that is being verified was asked for."""

    def __init__(self):
        super().__init__("_bpf_asked")

    def invoke(self):
        """See gdb.Function."""
        return is_asked()


_Asked()

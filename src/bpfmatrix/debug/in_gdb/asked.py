"""Which program is being loaded, and whether it is one that was asked for.

Loaders load programs of their own, to probe the kernel, some of which have names (libbpf's is
called libbpf_nametest). The name of each program is read where the verifier begins, from the
arguments of bpf(2). That needs no DWARF.
"""

import gdb
from bpfmatrix_in_gdb import loads

_names = set()


def only(names):
    """Let the breakpoints of the verifier stop only at programs with these names."""
    _names.update(name.encode()[:15].decode(errors="replace") for name in names)
    loads.follow(loads.Follower())


def is_asked():
    """Whether the program that is being verified was asked for, or any program is."""
    load = loads.current()
    return load is not None and (load.name in _names if _names else not load.is_probe)


class _Asked(gdb.Function):
    """$_bpf_asked(): whether the program that is being verified was asked for."""

    def __init__(self):
        super().__init__("_bpf_asked")

    def invoke(self):
        """See gdb.Function."""
        return is_asked()


_Asked()

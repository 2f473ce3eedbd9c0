"""Which program is being loaded, and whether it is one that was asked for.

Loaders load programs of their own, to probe the kernel, some of which have names (libbpf's is
called libbpf_nametest). The name of each program is read where the verifier begins, from the
arguments of bpf(2). That needs no DWARF.
"""

import gdb
from bpfmatrix_in_gdb import rejection

# BPF_OBJ_NAME_LEN, and the offset of `prog_name` in `union bpf_attr` (include/uapi/linux/bpf.h).
_NAME_BYTES, _NAME_OFFSET = 16, 48

_names = set()


def only(names):
    """Let the breakpoints of the verifier stop only at programs with these names."""
    _names.update(name.encode()[: _NAME_BYTES - 1].decode(errors="replace") for name in names)
    _Beginning(f"*{rejection._first_instruction('bpf_check'):#x}", internal=True)


def is_asked():
    """Whether the program that is being verified was asked for, or any program is."""
    return not _names or _Beginning.name in _names


class _Beginning(gdb.Breakpoint):
    """The first instruction of bpf_check(struct bpf_prog **prog, union bpf_attr *attr, ...)."""

    name = ""
    """The name of the program that was passed last."""

    def stop(self):
        place = int(rejection._argument(1)) + _NAME_OFFSET
        memory = gdb.selected_inferior().read_memory(place, _NAME_BYTES)
        _Beginning.name = memory.tobytes().partition(b"\0")[0].decode(errors="replace")
        return False


class _Asked(gdb.Function):
    """$_bpf_asked(): whether the program that is being verified was asked for."""

    def __init__(self):
        super().__init__("_bpf_asked")

    def invoke(self):
        """See gdb.Function."""
        return is_asked()


_Asked()

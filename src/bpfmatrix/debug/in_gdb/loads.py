"""The programs that the guest is loading: which they are, and what the verifier said of each.

The verifier is one call of `bpf_check` for each program. Each task is found by its kernel stack:
several programs can be verified at a time.
"""

from dataclasses import dataclass, field

import gdb
from bpfmatrix_in_gdb import machine
from bpfmatrix_in_gdb.messages import Lines

# No kernel stack of the architectures that QEMU emulates for us is larger, but with KASAN.
_STACK_BYTES = 16 << 10
# union bpf_attr of include/uapi/linux/bpf.h, for BPF_PROG_LOAD: prog_name.
_NAME_OFFSET, _NAME_BYTES = 48, 16


@dataclass
class Load:
    """A program that is verified."""

    name: str
    """Empty for the programs that libraries load to probe the kernel's features."""
    stack: int
    """The stack pointer where `bpf_check` begins."""
    lines: Lines = field(default_factory=Lines)
    reasons: list[str] = field(default_factory=list)
    """The messages with which the verifier rejects it."""
    env: int = 0
    """The address of the `struct bpf_verifier_env`, once it is known."""
    reported: bool = False
    """Whether gdb has stopped at its rejection."""


_loads = []
_followers = []
_begun = []


def current():
    """Return the load whose task the guest is in, or None."""
    pointer = machine.stack_pointer()
    near = [load for load in _loads if 0 <= load.stack - pointer < _STACK_BYTES]
    return min(near, key=lambda load: load.stack - pointer, default=None)


class Follower:
    """What follows the loads of programs. Each function is called while the guest is stopped."""

    def begin(self, load):
        """A program is about to be verified."""

    def end(self, load, error):
        """The verifier returned `error`, 0 or a negative error number; return whether to stop."""
        return False


def follow(follower):
    """Call a follower's functions from now on."""
    _followers.append(follower)
    if not _begun:
        _begun.append(_Begin(f"*{machine.first_instruction('bpf_check'):#x}", internal=True))


class _Begin(gdb.Breakpoint):
    """The first instruction of `bpf_check`."""

    def stop(self):
        name = machine.memory(machine.argument(1) + _NAME_OFFSET, _NAME_BYTES)
        pointer = machine.stack_pointer()
        # What was loaded on this stack is over, if gdb did not see its end.
        _loads[:] = [load for load in _loads if load.stack != pointer]
        load = Load(name.partition(b"\0")[0].decode(errors="replace"), pointer)
        _loads.append(load)
        if _End.place is None:
            address = machine.return_address()
            _End.place = _End(f"*{address:#x}", internal=True)
        for follower in _followers:
            follower.begin(load)
        return False


class _End(gdb.Breakpoint):
    """The instruction behind the call of `bpf_check`, which has one caller."""

    place = None

    def stop(self):
        load = current()
        if load is None:
            return False
        _loads.remove(load)
        stops = [follower.end(load, machine.result()) for follower in _followers]
        return any(stops)

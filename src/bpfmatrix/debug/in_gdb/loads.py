"""The programs that the guest is loading: which they are, and what the verifier said of each.

The verifier is one call of `bpf_check` for each program. Each task is found by its kernel stack:
several programs can be verified at a time.
"""

import contextlib
from dataclasses import dataclass, field

import gdb
from bpfmatrix_in_gdb import machine
from bpfmatrix_in_gdb.messages import Lines

# No kernel stack of the architectures that QEMU emulates for us is larger, but with KASAN.
_STACK_BYTES = 16 << 10
# union bpf_attr of include/uapi/linux/bpf.h, for BPF_PROG_LOAD: prog_name.
_NAME_OFFSET, _NAME_BYTES = 48, 16


# Most programs with which libraries probe the kernel's features have no name. Those of libbpf's
# probe_kern_prog_name and probe_kern_arg_ctx_tag have one.
_PROBES = ("libbpf_", "det_arg_ctx")


@dataclass
class Load:
    """A program that is verified."""

    name: str
    stack: int
    """The stack pointer where `bpf_check` begins."""
    program: int = 0
    """The address of the `struct bpf_prog`."""
    lines: Lines = field(default_factory=Lines)
    reasons: list[str] = field(default_factory=list)
    """The messages with which the verifier rejects it."""
    overlooked: list[str] = field(default_factory=list)
    """Messages about its functions' arguments that are no rejection by themselves."""
    env: int = 0
    """The address of the `struct bpf_verifier_env`, once it is known."""
    verified: bool = False
    """Whether the verifier has begun with it."""
    reported: bool = False
    """Whether gdb has stopped at its rejection."""

    @property
    def is_asked(self):
        """Whether the session is about it: not if a library loads it to probe the kernel."""
        if _names:
            return self.name in _names
        return bool(self.name) and not self.name.startswith(_PROBES)


_names = set()
_loads = []
_attempts = []
_followers = []
_begun = []


def only(names):
    """Ask for programs with these names only."""
    longest = _NAME_BYTES - 1
    _names.update(name.encode()[:longest].decode(errors="replace") for name in names)
    # The compiler may have inlined bpf_check: then the names are not known, and all programs are
    # asked for.
    with contextlib.suppress(gdb.error):
        follow(Follower())


def are_named():
    """Whether only programs with some names are asked for."""
    return bool(_names)


def is_of_no_other():
    """Whether the guest verifies a program that is asked for, or does something else."""
    load = current()
    return load is None or load.is_asked


def current():
    """Return the load whose task the guest is in, or None."""
    return _nearest(_loads)


def _nearest(loads):
    pointer = machine.stack_pointer()
    # Where a function has returned, the stack pointer is a word above, on some architectures.
    near = [load for load in loads if -8 <= load.stack - pointer < _STACK_BYTES]
    return min(near, key=lambda load: load.stack - pointer, default=None)


class Follower:
    """What follows the loads of programs. Each function is called while the guest is stopped."""

    def begin(self, load):
        """A program is about to be verified."""

    def end(self, load, error):
        """The verifier returned `error`, 0 or a negative error number; return whether to stop."""
        return False

    def refuse(self, load, error):
        """The kernel returned `error` before the verifier began; return whether to stop."""
        return False


def follow(follower, command=""):
    """Call a follower's functions from now on.

    With `command`, which gdb runs where the follower wants to stop, its function `refuse` is called
    too, if `bpf_prog_load` is a function of its own in this kernel.
    """
    _followers.append(follower)
    _End.command = command or _End.command
    if command and _Attempt.breakpoint is None:
        with contextlib.suppress(gdb.error):
            address = machine.first_instruction("bpf_prog_load")
            _Attempt.breakpoint = _Attempt(f"*{address:#x}", internal=True)
    if not _begun:
        _begun.append(_Begin(f"*{machine.first_instruction('bpf_check'):#x}", internal=True))


class _Begin(gdb.Breakpoint):
    """The first instruction of `bpf_check`."""

    def stop(self):
        name = _name(machine.argument(1))
        pointer = machine.stack_pointer()
        for attempt in _attempts:
            attempt.verified |= 0 <= attempt.stack - pointer < _STACK_BYTES
        # What was loaded on this stack is over, if gdb did not see its end. Kernels put the frames
        # of each system call elsewhere in the stack (randomize_kstack_offset).
        _loads[:] = [load for load in _loads if abs(load.stack - pointer) >= _STACK_BYTES]
        load = Load(name, pointer, program=machine.word(machine.argument(0)))
        _loads.append(load)
        if _End.breakpoint is None:
            address = machine.return_address()
            _End.breakpoint = _End(f"*{address:#x}", internal=True)
            _End.breakpoint.silent = True
            _End.breakpoint.commands = _End.command
        for follower in _followers:
            follower.begin(load)
        return False


def _name(attributes):
    """Return the name of the program in a `union bpf_attr`."""
    name = machine.memory(attributes + _NAME_OFFSET, _NAME_BYTES)
    return name.partition(b"\0")[0].decode(errors="replace")


class _Attempt(gdb.Breakpoint):
    """The first instruction of `bpf_prog_load`, which calls `bpf_check`."""

    breakpoint = None

    def stop(self):
        pointer = machine.stack_pointer()
        _attempts[:] = [one for one in _attempts if abs(one.stack - pointer) >= _STACK_BYTES]
        _attempts.append(Load(_name(machine.argument(0)), pointer))
        if _Refusal.breakpoint is None:
            _Refusal.breakpoint = _Refusal(f"*{machine.return_address():#x}", internal=True)
            _Refusal.breakpoint.silent = True
            _Refusal.breakpoint.commands = _End.command
        return False


class _Refusal(gdb.Breakpoint):
    """The instruction behind the call of `bpf_prog_load`, which has one caller."""

    breakpoint = None

    def stop(self):
        load = _nearest(_attempts)
        if load is None:
            return False
        _attempts.remove(load)
        if load.verified or machine.result() >= 0:
            return False
        stops = [follower.refuse(load, machine.result()) for follower in _followers]
        return any(stops)


class _End(gdb.Breakpoint):
    """The instruction behind the call of `bpf_check`, which has one caller."""

    breakpoint = None
    command = ""

    def stop(self):
        load = current()
        if load is None:
            return False
        _loads.remove(load)
        stops = [follower.end(load, machine.result()) for follower in _followers]
        return any(stops)

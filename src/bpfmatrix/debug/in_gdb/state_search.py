"""The verifier's state where no variable has it: found in the registers and on the stack.

The compiler optimizes out the variable `env` of each function that is inlined into `bpf_check`,
as 5.4's `do_check` is. But a register has it, or the stack. It is the one structure there whose
member `prog` is the program that is verified.
"""

import contextlib

import gdb
from bpfmatrix_in_gdb import machine

# Kernel addresses are in the upper half. Structures that are allocated are aligned to a word.
_KERNEL, _WORD = 1 << 63, 8


def address(load):
    """Return the address of the `struct bpf_verifier_env` of a load, or 0.

    The guest has stopped in the task of the load. gdb.error without DWARF.
    """
    fields = gdb.lookup_type("struct bpf_verifier_env").fields()
    offset = next(field.bitpos // 8 for field in fields if field.name == "prog")
    for value in dict.fromkeys(_values(load)):
        if value < _KERNEL or value % _WORD:
            continue
        try:
            if machine.word(value + offset) == load.program:
                return value
        except gdb.error:  # it is no pointer
            continue
    return 0


def _values(load):
    """Yield what the registers have, and the words of the stack back to where `bpf_check` began."""
    frame, number = gdb.newest_frame(), gdb.lookup_type("unsigned long")
    for register in frame.architecture().registers("general"):
        with contextlib.suppress(gdb.error):  # registers that hold no number
            yield int(frame.read_register(register).cast(number))
    for place in range(machine.stack_pointer(), load.stack, _WORD):
        yield machine.word(place)

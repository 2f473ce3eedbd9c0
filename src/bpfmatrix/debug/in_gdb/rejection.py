"""The stop where the verifier says why it rejects a program."""

import contextlib
import re

import gdb
from bpfmatrix_in_gdb.kernel_data import name_of

# The registers of the first two arguments of a function, by the beginning of gdb's name of the
# architecture.
ARGUMENTS = {
    "i386:x86-64": ("rdi", "rsi"),
    "aarch64": ("x0", "x1"),
    "riscv": ("a0", "a1"),
    "s390": ("r2", "r3"),
    "powerpc": ("r3", "r4"),
}
# How the formats of messages begin that are no reason to reject a program: instructions, states,
# source lines, and statistics. They are written if a library asks for a log at its first attempt.
TRACE = re.compile(
    r"%d: |(?:%[.*a-z]+)+\s*$|[\s(;=,_)]|(?:from|to) |frame|R%d(?:_|=|$)|processed |subprog|func#|"
    r"verification time|stack depth|last_idx|regs=|parent |mark_precise|propagating"
)


class _Rejection(gdb.Breakpoint):
    """A breakpoint where the verifier says why it rejects a program."""

    format = ""
    """The format of the last message at which it stopped."""

    def stop(self):
        format = _argument(1).cast(gdb.lookup_type("char").pointer()).string(errors="replace")
        if TRACE.match(format):
            return False
        # The programs that libraries load to probe the kernel's features have no name.
        with contextlib.suppress(gdb.error):
            kind = gdb.lookup_type("struct bpf_verifier_env").pointer()
            if not name_of(_argument(0).cast(kind)["prog"]["aux"]["name"]).strip("-"):
                return False
        _Rejection.format = format
        return True


def _argument(number):
    """Return an argument of the function at whose first instruction the guest is."""
    machine = gdb.newest_frame().architecture().name()
    registers = next(found for name, found in ARGUMENTS.items() if machine.startswith(name))
    value = gdb.parse_and_eval(f"${registers[number]}")
    return value.cast(gdb.lookup_type("unsigned long"))


def break_at_rejection(function):
    """Stop where the verifier says why it rejects a program; `function` writes its messages."""
    # At the address of its first instruction, where the arguments are in their registers.
    _Rejection(f"*{_first_instruction(function):#x}")


def _first_instruction(function):
    """Return the address of a function of the verifier. Variables may have the same name."""
    for location in gdb.decode_line(function)[1]:
        block = gdb.block_for_pc(location.pc)
        while block is not None and block.function is None:
            block = block.superblock
        if block is not None and block.function.symtab.filename.endswith("verifier.c"):
            return block.start
    # Without DWARF, there are only functions.
    return int(gdb.parse_and_eval(f"(unsigned long)&{function}"))


def say_rejection():
    """Print the message, and the instruction with its line of C, if the guest has stopped there."""
    if not _Rejection.format:
        return
    print(f"the verifier rejects a program: {_Rejection.format.strip()}")
    # Without DWARF, the verifier's data can't be read.
    with contextlib.suppress(gdb.error):
        gdb.execute("bpf-insn")
    print("`bt` shows what it was checking; `finish`, `up` and `bpf-insn` go on from there.")

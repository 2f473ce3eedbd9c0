"""The guest's processor where a function begins or returns: arguments, results, the stack.

The registers are those of each architecture's calling convention. No DWARF is needed.
"""

from dataclasses import dataclass

import gdb


@dataclass(frozen=True)
class Convention:
    """How one architecture calls functions. Registers have gdb's names."""

    arguments: tuple[str, ...]
    stack: str
    """The stack pointer."""
    overflow: int
    """Where the arguments that have no register begin, in bytes above the stack pointer."""
    link: str
    """The register with the return address; empty if that is where the stack pointer points."""
    result: str


# By the beginning of gdb's name of the architecture.
_CONVENTIONS = {
    "i386:x86-64": Convention(("rdi", "rsi", "rdx", "rcx", "r8", "r9"), "rsp", 8, "", "rax"),
    "aarch64": Convention(tuple(f"x{n}" for n in range(8)), "sp", 0, "x30", "x0"),
    "riscv": Convention(tuple(f"a{n}" for n in range(8)), "sp", 0, "ra", "a0"),
    "s390": Convention(tuple(f"r{n}" for n in range(2, 7)), "r15", 160, "r14", "r2"),
    "powerpc": Convention(tuple(f"r{n}" for n in range(3, 11)), "r1", 96, "lr", "r3"),
}
_U64 = (1 << 64) - 1


def convention():
    name = gdb.newest_frame().architecture().name()
    return next(found for key, found in _CONVENTIONS.items() if name.startswith(key))


def register(name):
    """Return a register as a number without a sign."""
    return int(gdb.parse_and_eval(f"(unsigned long)${name}")) & _U64


def stack_pointer():
    return register(convention().stack)


def argument(number):
    """Return an argument of the function at whose first instruction the guest is."""
    how = convention()
    if number < len(how.arguments):
        return register(how.arguments[number])
    beyond = number - len(how.arguments)
    return word(register(how.stack) + how.overflow + 8 * beyond)


def return_address():
    """Return where the function returns to at whose first instruction the guest is."""
    how = convention()
    return register(how.link) if how.link else word(register(how.stack))


def result():
    """Return what a function returned, an int, where the guest has just returned from it."""
    value = register(convention().result) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def word(address):
    """Return the 64 bits at an address, as a number without a sign."""
    return number(memory(address, 8))


def number(data):
    """Return bytes of the guest as a number without a sign."""
    return int.from_bytes(data, "little" if byte_order() == "<" else "big")


def byte_order():
    """Return the guest's order of bytes, as in Python's `struct`."""
    return ">" if "big" in gdb.execute("show endian", to_string=True) else "<"


def memory(address, size):
    return bytes(gdb.selected_inferior().read_memory(address, size))


def string(address, limit=1024):
    """Return the string at an address."""
    text = b""
    while len(text) < limit:
        # A string may end right before a page that is not mapped.
        size = 64 - address % 64
        text += memory(address, size)
        if b"\0" in text:
            return text.partition(b"\0")[0].decode(errors="replace")
        address += size
    return text[:limit].decode(errors="replace")


def first_instruction(function):
    """Return the address of a function of eBPF in the kernel; gdb.error if there is none.

    Variables, and functions of other files, may have the same name.
    """
    for location in gdb.decode_line(function)[1]:
        block = gdb.block_for_pc(location.pc)
        while block is not None and block.function is None:
            block = block.superblock
        if block is None or "/bpf/" not in block.function.symtab.filename:
            continue
        # A function that is inlined has no address.
        if block.superblock is not None and _function_of(block.superblock) is None:
            # Not the block's start: that may be of a part that gcc has put elsewhere.
            return int(block.function.value().address) & _U64
    # Without DWARF, there are only functions.
    return int(gdb.parse_and_eval(f"(unsigned long)&{function}")) & _U64


def _function_of(block):
    while block is not None and block.function is None:
        block = block.superblock
    return block.function if block is not None else None

"""The arguments of the commands: numbers, and names of programs and maps."""

import gdb

# The kernel keeps so many bytes of a name (BPF_OBJ_NAME_LEN of include/linux/bpf.h, with a 0).
_LONGEST = 15


def integer(text, usage, least=0):
    """Return a number that a command was given, or an expression of gdb for one.

    `usage` says how the command is called. gdb.GdbError if it is none, or less than `least`.
    """
    try:
        found = gdb.parse_and_eval(text)
        # A function's name is its address, which is never meant.
        is_number = found.type.strip_typedefs().code == gdb.TYPE_CODE_INT
        value = int(found) if is_number else None
    except gdb.error:
        value = None
    if value is None or value < least:
        kind = "a number" if least == 0 else f"a number from {least} on"
        raise gdb.GdbError(f"`{text.strip()}` is not {kind}: {usage}")
    return value


def kernels_name(word):
    """Return a name of a source as the kernel has it, which is cut."""
    return word.encode()[:_LONGEST].decode(errors="replace")

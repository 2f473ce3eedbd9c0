"""Reading of the verifier's state: the program that it checks, its instructions and its source."""

import contextlib

import gdb
from bpfmatrix_in_gdb import insn as insns


def instruction(program, number):
    """Return an instruction of a `struct bpf_prog` as text."""
    fields = ("code", "dst_reg", "src_reg", "off", "imm")
    insn = [int(program["insnsi"][number][field]) for field in fields]
    # The second half of a 64-bit load has no opcode.
    return insns.text(*insn) if insn[0] else f"     the upper half: {insn[-1] & 0xFFFFFFFF:#x}"


def verifier_env():
    """Return the verifier's state: the variable `env` of the outermost frame that has it.

    In inner frames, the compiler may have optimized it out.
    """
    frame, found = gdb.selected_frame(), None
    while frame is not None:
        # A frame may not have it, or it may be optimized out.
        with contextlib.suppress(ValueError, RuntimeError, gdb.error):
            env = frame.read_var("env")
            if "bpf_verifier_env" in str(env.type) and int(env["prog"]["len"]) > 0:
                found = env.dereference()
        frame = frame.older()
    if found is None:
        raise gdb.GdbError("no frame of the stack is in the verifier: stop in do_check first")
    return found


def source_line(aux, index):
    """Return `file:line: text` of an instruction, by the object's BTF, or "" if it has none."""
    found = None
    for number in range(int(aux["nr_linfo"])):
        info = aux["linfo"][number]
        if int(info["insn_off"]) > index:
            break
        found = info
    if found is None:
        return ""
    strings = aux["btf"]["strings"]
    file = (strings + int(found["file_name_off"])).string(errors="replace")
    text = (strings + int(found["line_off"])).string(errors="replace").strip()
    # The lower 10 bits are the column (Documentation/bpf/btf.rst).
    return f"{file}:{int(found['line_col']) >> 10}: {text}"

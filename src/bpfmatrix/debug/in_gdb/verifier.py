"""Reading of the verifier's state: the program that it checks, its instructions and its source."""

import bisect
import contextlib
import functools
from dataclasses import dataclass

import gdb
from bpfmatrix_in_gdb import insn as insns
from bpfmatrix_in_gdb import loads, machine, messages, state_search
from bpfmatrix_in_gdb.kernel_data import name_of
from bpfmatrix_in_gdb.path import Insn, State, of_callback, path
from bpfmatrix_in_gdb.registers import NOT_INIT, Register, Scalar, slot_text, type_name

_U64 = (1 << 64) - 1


def formatted(format, argument):
    """Return what a message of the verifier says; `argument` returns its next argument."""
    return messages.formatted(format, argument, machine.string)


def _has_deep(kind, name):
    """Whether a structure has a member of this name, those of its unnamed members included."""
    for field in kind.strip_typedefs().fields():
        if field.name == name:
            return True
        if not field.name and _has_deep(field.type, name):
            return True
    return False


def is_guess(env):
    """Whether the verifier follows a path that only a processor that guesses could take.

    From 6.17 on, such a path ends at what would be a rejection otherwise, and the program stays
    accepted (error_recoverable_with_nospec of kernel/bpf/verifier.c).
    """
    with contextlib.suppress(gdb.error, gdb.GdbError):
        if not _has_deep(gdb.lookup_type("struct bpf_insn_aux_data"), "nospec_result"):
            return False
        state = env_at(env)["cur_state"]
        return bool(state) and bool(state["speculative"])
    return False


def env_at(address):
    """Return the verifier's state at an address, as a pointer."""
    try:
        kind = gdb.lookup_type("struct bpf_verifier_env")
    except gdb.error:
        raise gdb.GdbError(
            "this vmlinux has no DWARF, which is needed to read the verifier's state"
        ) from None
    return gdb.Value(address).cast(kind.pointer())


@functools.cache
def _enumerators(name):
    try:
        return {field.name: field.enumval for field in gdb.lookup_type(f"enum {name}").fields()}
    except gdb.error:
        return {}


def _btf_name(btf, id):
    """Return the name of a type in a `struct btf` of the kernel."""
    while _has_deep(btf.type.target(), "base_btf") and btf["base_btf"] and id < btf["start_id"]:
        btf = btf["base_btf"]
    first = int(btf["start_id"]) if _has_deep(btf.type.target(), "start_id") else 0
    start = int(btf["start_str_off"]) if _has_deep(btf.type.target(), "start_str_off") else 0
    offset = int(btf["types"][id - first]["name_off"])
    while offset < start:
        btf = btf["base_btf"]
        start = int(btf["start_str_off"])
    return (btf["strings"] + (offset - start)).string(errors="replace")


def read_register(reg, frame=0):
    """Return a `struct bpf_reg_state` as a Register. `frame` is the number of its frame."""
    types, flags = _enumerators("bpf_reg_type"), _enumerators("bpf_type_flag")
    name = type_name(int(reg["type"]), types, flags)
    base = name.replace("_or_null", "")
    kind = reg.type
    struct, details, of_frame = "", [], None
    with contextlib.suppress(gdb.error):
        if "ptr_" in base and base.endswith("ptr_"):
            struct = _btf_name(_btf_of(reg), int(reg["btf_id"]))
    if base.endswith(("map_value", "map_ptr", "map_key")) and reg["map_ptr"]:
        map = reg["map_ptr"]
        details.append(f"map={name_of(map['name'])}")
        details.append(f"ks={int(map['key_size'])},vs={int(map['value_size'])}")
    if base in ("pkt", "pkt_meta"):
        details.append(f"r={int(reg['range'])}")
    if base.endswith(("mem", "buf")) and _has_deep(kind, "mem_size") and base.endswith("mem"):
        details.append(f"sz={int(reg['mem_size'])}")
    if base == "fp" and int(reg["frameno"]) != frame:
        of_frame = int(reg["frameno"])
    # The constant part of the offset: `off`, and `delta` in releases that have it in var_off.
    offset = next((int(reg[each]) for each in ("off", "delta") if _has_deep(kind, each)), 0)
    id = int(reg["id"]) & 0x3FFFFFFF if base == "scalar" else int(reg["id"])
    return Register(
        type=name,
        scalar=_scalar(reg),
        offset=0 if base == "scalar" else offset,
        id=id,
        reference=next(
            (int(reg[each]) for each in ("ref_obj_id", "parent_id") if _has_deep(kind, each)), 0
        ),
        precise=base == "scalar" and _has_deep(kind, "precise") and bool(reg["precise"]),
        details=tuple(details),
        struct=struct,
        frame=of_frame,
    )


def _btf_of(reg):
    if _has_deep(reg.type, "btf"):
        return reg["btf"]
    # Before 5.11, there is the kernel's own BTF only.
    return gdb.lookup_global_symbol("btf_vmlinux").value()


def _scalar(reg):
    value, mask = int(reg["var_off"]["value"]) & _U64, int(reg["var_off"]["mask"]) & _U64
    kind = reg.type
    if _has_deep(kind, "r64"):
        return Scalar(value, mask, **_circular(reg["r64"], 64), **_circular(reg["r32"], 32))
    bounds = {name: int(reg[f"{name}_value"]) for name in ("smin", "smax", "umin", "umax")}
    if _has_deep(kind, "s32_min_value"):  # from 5.7 on
        bounds |= {
            f"{name}32": int(reg[f"{name[0]}32_{name[1:]}_value"])
            for name in ("smin", "smax", "umin", "umax")
        }
    return Scalar(value, mask, **bounds)


def _circular(range, bits):
    """Return the bounds of a `struct cnum64` or `cnum32`: numbers that wrap around, from 7.1 on."""
    top, half = (1 << bits) - 1, 1 << (bits - 1)
    base, size = int(range["base"]) & top, int(range["size"]) & top
    last = base + size
    end = "" if bits == 64 else "32"
    unsigned = (0, top) if last > top else (base, last)
    # The same range, seen from the smallest number with a sign.
    low = base - (top + 1) if base >= half else base
    signed = (-half, half - 1) if low + size >= half else (low, low + size)
    names = (f"umin{end}", f"umax{end}", f"smin{end}", f"smax{end}")
    return dict(zip(names, (*unsigned, *signed), strict=True))


def registers(state, number):
    """Return what is known in a frame: pairs of a name, such as `R1` or `fp-8`, and its text."""
    frame = state["frame"][number]
    low, high = frame["regs"].type.range()
    found = []
    for index in range(low, min(high, 10) + 1):
        register = read_register(frame["regs"][index], number)
        if register.type != NOT_INIT:
            found.append((f"R{index}", register.text()))
    spilled = _enumerators("bpf_stack_slot_type")["STACK_SPILL"]
    for slot in range(int(frame["allocated_stack"]) // 8):
        one = frame["stack"][slot]
        types = [int(one["slot_type"][byte]) for byte in range(8)]
        register = read_register(one["spilled_ptr"], number) if types[7] == spilled else None
        if text := slot_text(types, register):
            found.append((f"fp{-8 * (slot + 1)}", text))
    return found


def instruction(program, number):
    """Return an instruction of a `struct bpf_prog` as text."""
    one = insn_at(program, number)
    if not one.code:  # the second half of a 64-bit load has no opcode
        return f"     the upper half: {one.imm & 0xFFFFFFFF:#x}"
    text = insns.text(one.code, one.dst, one.src, one.off, one.imm)
    with contextlib.suppress(gdb.error, StopIteration):
        if one.code == insns.WIDE:
            return _wide(program, number, one)
        if one.code == 0x85 and one.src != _PROGRAM_CALL:
            return f"({one.code:02x}) call {_callee(one)}#{one.imm}"
    return text


# Values of src_reg (include/uapi/linux/bpf.h): BPF_PSEUDO_CALL, BPF_PSEUDO_KFUNC_CALL, then
# BPF_PSEUDO_MAP_FD and _MAP_IDX, BPF_PSEUDO_MAP_VALUE and _MAP_IDX_VALUE, and BPF_PSEUDO_FUNC.
_PROGRAM_CALL, _KERNEL_CALL, _MAPS, _MAP_VALUES, _FUNCTION = 1, 2, (1, 5), (2, 6), 4


def _callee(one):
    if one.src == _KERNEL_CALL:
        return _btf_name(gdb.lookup_global_symbol("btf_vmlinux").value(), one.imm)
    functions = _enumerators("bpf_func_id")
    name = next(name for name, number in functions.items() if number == one.imm)
    return name.replace("BPF_FUNC_", "bpf_")


def _wide(program, number, one):
    """Return a 64-bit load as text: a constant of both halves, a map, or a place in its value."""
    upper = insn_at(program, number + 1).imm & 0xFFFFFFFF
    if one.src == _FUNCTION:
        return f"(18) r{one.dst} = the function at {number + 1 + one.imm}"
    if one.src in _MAPS + _MAP_VALUES and (name := _map_of(program, number, one, upper)):
        offset = ""
        if one.src in _MAP_VALUES:
            # The verifier keeps the offset, and has put the address into the instruction.
            offset = f"+{_map_offset(program, number)}"
        return f"(18) r{one.dst} = map {name}{offset}"
    return f"(18) r{one.dst} = {upper << 32 | one.imm & 0xFFFFFFFF:#x} ll"


def _map_of(program, number, one, upper):
    """Return the name of the map that a load is about, or "" before the verifier has found it."""
    if one.src in _MAP_VALUES:
        env = _env_of(program)
        if env is None or not upper >> 31:
            return ""
        return name_of(env["used_maps"][int(_aux(env, number)["map_index"])]["name"])
    if not upper:  # the loader's number of the map is not replaced yet
        return ""
    kind = gdb.lookup_type("struct bpf_map").pointer()
    map = gdb.Value(one.imm & 0xFFFFFFFF | upper << 32).cast(kind)
    return name_of(map["name"])


def _map_offset(program, number):
    return int(_aux(_env_of(program), number)["map_off"])


def _aux(env, number):
    """Return what the verifier notes about an instruction, a `struct bpf_insn_aux_data`."""
    return env["insn_aux_data"][number]


def _env_of(program):
    """Return the verifier's state, if it is about this program; None otherwise."""
    with contextlib.suppress(gdb.error, gdb.GdbError):
        env = verifier_env()
        if int(env["prog"]["insnsi"].address) == int(program["insnsi"].address):
            return env
    return None


def insn_at(program, number):
    """Return an instruction of a `struct bpf_prog` as a path.Insn."""
    fields = ("code", "dst_reg", "src_reg", "off", "imm")
    return Insn(*(int(program["insnsi"][number][field]) for field in fields))


def states(env, most=500):
    """Return the states of the path that the verifier follows, as path.State, the newest first."""
    found, state = [], env["cur_state"]
    while state and len(found) < most:
        found.append(
            State(
                int(state["first_insn_idx"]),
                _signed(int(state["last_insn_idx"])),
                tuple(_jumps(env, state)),
            )
        )
        state = state["parent"]
    return found


def _jumps(env, state):
    if _has_deep(state.type.target(), "insn_hist_start"):  # 6.14 to 6.15
        history = env["insn_hist"]
        numbers = range(int(state["insn_hist_start"]), int(state["insn_hist_end"]))
    else:
        history, numbers = state["jmp_history"], range(int(state["jmp_history_cnt"]))
    for number in numbers:
        yield int(history[number]["idx"]), int(history[number]["prev_idx"])


def path_to(env, most):
    """Return the instructions on the way to the one that is checked, the newest first."""
    found = path(states(env), int(env["insn_idx"]), _signed(int(env["prev_insn_idx"])), most)
    state = env["cur_state"]
    outermost = state["frame"][0]
    field = "in_async_callback_fn"  # from 5.15 on
    if _has_deep(outermost.type.target(), field) and outermost[field]:
        insn = functools.cache(lambda number: insn_at(env["prog"], number))
        return of_callback(found, insn, int(state["curframe"]))
    return found


def _signed(number):
    return number - (1 << 32) if number >> 31 else number


def verifier_env():
    """Return the verifier's state: the variable `env` of the outermost frame that has it.

    The compiler may have optimized it out, in inner frames or in all of them.
    """
    load = loads.current()
    if load is not None and load.env:
        return env_at(load.env).dereference()
    frame, found = gdb.selected_frame(), None
    while frame is not None:
        # A frame may not have it, or it may be optimized out.
        with contextlib.suppress(ValueError, RuntimeError, gdb.error):
            env = frame.read_var("env")
            if "bpf_verifier_env" in str(env.type) and int(env["prog"]["len"]) > 0:
                found = env.dereference()
        frame = frame.older()
    if found is None and load is not None and (env := state_search.address(load)):
        load.env = env
        return env_at(env).dereference()
    if found is None:
        raise gdb.GdbError("no frame of the stack is in the verifier: stop in do_check first")
    return found


@dataclass(frozen=True)
class LineInfo:
    """A line of a program's source, and its first instruction: `struct bpf_line_info`."""

    instruction: int
    file: str
    line: int
    text: str


def lines(aux):
    """Return the source lines of a program (`struct bpf_prog_aux`), by the object's BTF."""
    strings, found = aux["btf"]["strings"] if aux["btf"] else None, []
    for number in range(int(aux["nr_linfo"])):
        info = aux["linfo"][number]
        file = (strings + int(info["file_name_off"])).string(errors="replace")
        text = (strings + int(info["line_off"])).string(errors="replace").strip()
        # The lower 10 bits are the column (Documentation/bpf/btf.rst).
        line = int(info["line_col"]) >> 10
        found.append(LineInfo(int(info["insn_off"]), file, line, text))
    return found


def _line_at(aux, index):
    """Return the LineInfo of an instruction, or None."""
    before = [one for one in lines(aux) if one.instruction <= index]
    return before[-1] if before else None


def at(source, index):
    """Return file, line and text of an instruction, from what `lines` returned, or None."""
    number = bisect.bisect_right([one.instruction for one in source], index)
    found = source[number - 1] if number else None
    return (found.file, found.line, found.text) if found else None


def line_of(aux, index):
    """Return the file and the line's number of an instruction, or None."""
    found = _line_at(aux, index)
    return (found.file, found.line) if found else None


def source_line(aux, index):
    """Return `file:line: text` of an instruction, by the object's BTF, or "" if it has none."""
    found = _line_at(aux, index)
    return f"{found.file}:{found.line}: {found.text}" if found else ""

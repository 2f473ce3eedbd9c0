"""The commands that `invoke debug` adds to gdb: bpf-progs, bpf-maps and bpf-insn.

gdb's own Python runs this file. It reads the kernel's memory by the types in its DWARF. It uses few
types, so that it works with every release from 5.4 on.
"""

import contextlib
import importlib.util
import json
import re
from pathlib import Path

import gdb

# Loaded by its path: other modules in this folder have the names of modules of gdb's Python.
_spec = importlib.util.spec_from_file_location("bpfmatrix_insn", Path(__file__).parent / "insn.py")
insns = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(insns)

PANICS = ("panic", "vpanic")
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


def bpfmatrix_resolve(names):
    """Print as JSON the location for each breakpoint, or the error."""
    results = {}
    for name in names:
        try:
            gdb.execute(f"tbreak {name}", to_string=True)
            results[name] = {"location": _entry_location(name)}
        except gdb.error as error:
            results[name] = {"error": str(error).splitlines()[0]}
    print(f"bpfmatrix:{json.dumps(results)}", flush=True)


def _entry_location(name):
    """Return the location of the start of a function, for a breakpoint.

    If a function is inlined into its only caller, as do_check is, gdb 13 stops at the lowest
    address of its code, which may be in the middle. The start is at the line of the call.
    """
    locations = gdb.decode_line(name)[1]
    if len(locations) != 1 or locations[0].symtab is None:
        return name
    block = gdb.block_for_pc(locations[0].pc)
    while block is not None and (block.function is None or block.function.name != name):
        block = block.superblock
    if block is None or not _within_function(block):
        return name
    # The symbol of an inlined function has the line of the call.
    line, table = block.function.line, locations[0].symtab.linetable()
    if any(_function_at(entry.pc) == name for entry in table.line(line) or ()):
        return f"{locations[0].symtab.filename}:{line}"
    return name


def _within_function(block):
    while block.superblock is not None:
        block = block.superblock
        if block.function is not None:
            return True
    return False


def _function_at(address):
    block = gdb.block_for_pc(address)
    while block is not None and block.function is None:
        block = block.superblock
    return block.function.name if block is not None else None


def bpfmatrix_connect(target):
    """Connect to a guest that has not run its first instruction yet: a path, or HOST:PORT."""
    gdb.execute(f"target remote {target}", to_string=True)


def bpfmatrix_begin(marker):
    """Stop at a panic, too, and create the file `marker` when a breakpoint is reached."""
    for name in PANICS:
        try:
            gdb.parse_and_eval(name)
        except gdb.error:
            continue  # only newer kernels have vpanic
        _Panic(name, internal=True)

    def stopped(event):
        if isinstance(event, gdb.BreakpointEvent):
            Path(marker).touch()

    gdb.events.stop.connect(stopped)


class _Panic(gdb.Breakpoint):
    """A breakpoint where the kernel panics."""

    def stop(self):
        print("The kernel panics. `bt` shows why; `continue` lets it go on.")
        return True


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
            if not _name(_argument(0).cast(kind)["prog"]["aux"]["name"]).strip("-"):
                return False
        _Rejection.format = format
        return True


def _argument(number):
    """Return an argument of the function at whose first instruction the guest is."""
    machine = gdb.newest_frame().architecture().name()
    registers = next(found for name, found in ARGUMENTS.items() if machine.startswith(name))
    value = gdb.parse_and_eval(f"${registers[number]}")
    return value.cast(gdb.lookup_type("unsigned long"))


def bpfmatrix_break_at_rejection(function):
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


def bpfmatrix_say_rejection():
    """Print the message, and the instruction with its line of C, if the guest has stopped there."""
    if not _Rejection.format:
        return
    print(f"the verifier rejects a program: {_Rejection.format.strip()}")
    # Without DWARF, the verifier's data can't be read.
    with contextlib.suppress(gdb.error):
        gdb.execute("bpf-insn")
    print("`bt` shows what it was checking; `finish`, `up` and `bpf-insn` go on from there.")


def _entries(idr):
    """Yield the pointers in a `struct idr`: a radix tree, since 4.20 in the form of an xarray."""
    node_type = gdb.lookup_type("struct xa_node").pointer()
    pending = [int(idr["idr_rt"]["xa_head"])]
    while pending:
        entry = pending.pop(0)
        # The lowest two bits of a pointer to a node are 10. Values below 4096 are internal marks.
        if entry & 3 == 2 and entry > 4096:
            slots = gdb.Value(entry - 2).cast(node_type).dereference()["slots"]
            low, high = slots.type.range()
            pending += [int(slots[index]) for index in range(low, high + 1)]
        elif entry and entry & 3 == 0:
            yield entry


def _objects(name, type_name):
    symbol = gdb.lookup_static_symbol(name) or gdb.lookup_global_symbol(name)
    if symbol is None:
        raise gdb.GdbError("this vmlinux has no DWARF, which is needed to read the kernel's lists")
    kind = gdb.lookup_type(type_name).pointer()
    for entry in _entries(symbol.value()):
        yield gdb.Value(entry).cast(kind).dereference()


def _name(chars):
    return chars.string(errors="replace") or "-"


def _type(value, prefix):
    return str(value).replace(prefix, "").lower()


class BpfProgs(gdb.Command):
    """List the loaded eBPF programs: id, type, name, instructions, address."""

    def __init__(self):
        super().__init__("bpf-progs", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        rows = [("id", "type", "name", "insns", "address")]
        for program in _objects("prog_idr", "struct bpf_prog"):
            aux = program["aux"]
            name, kind = _name(aux["name"]), _type(program["type"], "BPF_PROG_TYPE_")
            address = hex(int(program["bpf_func"]))
            rows.append((str(int(aux["id"])), kind, name, str(int(program["len"])), address))
        _print_table(rows, "no program is loaded")


class BpfMaps(gdb.Command):
    """List the eBPF maps: id, type, name, size of key and value in bytes, entries."""

    def __init__(self):
        super().__init__("bpf-maps", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        rows = [("id", "type", "name", "key", "value", "entries")]
        for map in _objects("map_idr", "struct bpf_map"):
            numbers = [str(int(map[field])) for field in ("key_size", "value_size", "max_entries")]
            kind = _type(map["map_type"], "BPF_MAP_TYPE_")
            rows.append((str(int(map["id"])), kind, _name(map["name"]), *numbers))
        _print_table(rows, "there is no map")


def _print_table(rows, empty_message):
    if len(rows) == 1:
        print(empty_message)
        return
    widths = [max(len(word) for word in column) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        )


class BpfInsn(gdb.Command):
    """Show the instruction that the verifier visits, or that of a number, with its source line."""

    def __init__(self):
        super().__init__("bpf-insn", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        env = _verifier_env()
        program = env["prog"]
        aux, count = program["aux"], int(program["len"])
        index = int(gdb.parse_and_eval(argument)) if argument else int(env["insn_idx"])
        if not 0 <= index < count:
            raise gdb.GdbError(f"the program has the instructions 0 to {count - 1}")
        print(f"program {_name(aux['name'])}, instruction {index} of {count}")
        if line := _source_line(aux, index):
            print(f"; {line}")
        first, last = max(0, index - 2), min(count, index + 3)
        for number in range(first, last):
            mark = "=>" if number == index else "  "
            print(f"{mark} {number:4}: {_instruction(program, number)}")


def _instruction(program, number):
    fields = ("code", "dst_reg", "src_reg", "off", "imm")
    insn = [int(program["insnsi"][number][field]) for field in fields]
    # The second half of a 64-bit load has no opcode.
    return insns.text(*insn) if insn[0] else f"     the upper half: {insn[-1] & 0xFFFFFFFF:#x}"


def _verifier_env():
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


def _source_line(aux, index):
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


BpfProgs()
BpfMaps()
BpfInsn()

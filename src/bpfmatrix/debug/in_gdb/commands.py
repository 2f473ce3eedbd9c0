"""The commands that show programs, maps, and what the verifier knows: bpf-insn, bpf-regs, ..."""

import functools

import gdb
from bpfmatrix_in_gdb import path, verifier, why
from bpfmatrix_in_gdb.arguments import integer
from bpfmatrix_in_gdb.kernel_data import name_of, objects, type_of
from bpfmatrix_in_gdb.verifier import instruction, registers, source_line, verifier_env

MOST = 20_000
"""The most instructions that a path is followed back."""


class BpfProgs(gdb.Command):
    """List the loaded eBPF programs: id, type, name, instructions, address."""

    def __init__(self):
        super().__init__("bpf-progs", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        rows = [("id", "type", "name", "insns", "address")]
        for program in objects("prog_idr", "struct bpf_prog"):
            aux = program["aux"]
            name, kind = name_of(aux["name"]), type_of(program["type"], "BPF_PROG_TYPE_")
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
        for map in objects("map_idr", "struct bpf_map"):
            numbers = [str(int(map[field])) for field in ("key_size", "value_size", "max_entries")]
            kind = type_of(map["map_type"], "BPF_MAP_TYPE_")
            rows.append((str(int(map["id"])), kind, name_of(map["name"]), *numbers))
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
        given = integer(argument, "bpf-insn [NUMBER]") if argument.strip() else None
        env = verifier_env()
        program = env["prog"]
        aux, count = program["aux"], int(program["len"])
        index = int(env["insn_idx"]) if given is None else given
        if not 0 <= index < count:
            raise gdb.GdbError(f"the program has the instructions 0 to {count - 1}")
        print(f"program {name_of(aux['name'])}, instruction {index} of {count}")
        if line := source_line(aux, index):
            print(f"; {line}")
        first, last = max(0, index - 2), min(count, index + 3)
        for number in range(first, last):
            # A 64-bit load takes two slots, and is shown at the first one.
            if number != index and not int(program["insnsi"][number]["code"]):
                continue
            mark = "=>" if number == index else "  "
            print(f"{mark} {number:4}: {instruction(program, number)}")


class BpfRegs(gdb.Command):
    """Show what the verifier knows of the registers and the stack, as its log shows it."""

    def __init__(self):
        super().__init__("bpf-regs", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        state = verifier_env()["cur_state"]
        if not state:
            raise gdb.GdbError("the verifier has not begun with the first instruction yet")
        last = int(state["curframe"])
        for number in range(last, -1, -1):
            title = f"frame{number}: " if last else ""
            words = [f"{name}={text}" for name, text in registers(state, number)]
            print(_wrapped(title, words))


def _wrapped(title, words, width=100):
    lines, line = [], title
    for word in words:
        if len(line) > len(title) and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = " " * len(title)
        line += (" " if line.strip() and line != title else "") + word
    return "\n".join([*lines, line])


class BpfPath(gdb.Command):
    """Show how the verifier came to the instruction: the last lines of C, with their instructions.

    bpf-path [LINES]: so many of the last lines, 20 by default.
    """

    def __init__(self):
        super().__init__("bpf-path", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        count = integer(argument, "bpf-path [LINES]", least=1) if argument.strip() else 20
        env = verifier.verifier_env()
        program = env["prog"]
        numbers = verifier.path_to(env, MOST)
        source = verifier.lines(program["aux"])
        stretches = list(path.stretches(numbers, lambda number: verifier.at(source, number)))
        if len(stretches) > count:
            print(
                f"... {len(stretches) - count} more lines before these: `bpf-path {len(stretches)}`"
            )
        insn = functools.cache(lambda number: verifier.insn_at(program, number))
        depth = 0
        for index, stretch in enumerate(stretches):
            lines = [f"{_range(stretch.numbers):>11}  {'  ' * depth}{_place(stretch)}".rstrip()]
            for choice in path.choices(stretch, insn):
                if index >= len(stretches) - count:
                    text = verifier.instruction(program, choice.number)
                    text += f": {choice.how}" if choice.how else ""
                    lines.append(f"{'':>11}  {'  ' * depth}  {choice.number}: {text}")
                depth = max(0, depth + choice.deeper)
            if index >= len(stretches) - count:
                print("\n".join(lines))


def _range(numbers):
    first, last = numbers[0], numbers[-1]
    return f"{first}" if first == last else f"{first}-{last}"


def _place(stretch):
    return f"{stretch.place[0]}:{stretch.place[1]}: {stretch.place[2]}" if stretch.place else ""


class BpfWhy(gdb.Command):
    """Show where a register got what it holds: bpf-why REG, such as r1."""

    def __init__(self):
        super().__init__("bpf-why", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        word = argument.strip().lower().removeprefix("$").removeprefix("r")
        if not word.isdecimal() or int(word) > 10:
            raise gdb.GdbError("name a register, R0 to R10: bpf-why R1")
        env = verifier.verifier_env()
        program, register = env["prog"], int(word)
        state = env["cur_state"]
        known = dict(registers(state, int(state["curframe"]))) if state else {}
        print(f"R{register} is {known.get(f'R{register}', 'not initialized')}")
        numbers = verifier.path_to(env, MOST)
        found, end = why.causes(numbers, lambda one: verifier.insn_at(program, one), register)
        source = verifier.lines(program["aux"])
        for reason in found:
            text = f"{verifier.instruction(program, reason.number)}"
            print(f"  {reason.number:4}: {text}: {reason.what}")
            if place := verifier.at(source, reason.number):
                print(f"        ; {place[0]}:{place[1]}: {place[2]}")
        if end:
            print(f"  {end}")


BpfProgs()
BpfMaps()
BpfInsn()
BpfRegs()
BpfPath()
BpfWhy()

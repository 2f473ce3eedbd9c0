"""The commands bpf-progs, bpf-maps and bpf-insn."""

import gdb
from bpfmatrix_in_gdb.kernel_data import name_of, objects, type_of
from bpfmatrix_in_gdb.verifier import instruction, source_line, verifier_env


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
        env = verifier_env()
        program = env["prog"]
        aux, count = program["aux"], int(program["len"])
        index = int(gdb.parse_and_eval(argument)) if argument else int(env["insn_idx"])
        if not 0 <= index < count:
            raise gdb.GdbError(f"the program has the instructions 0 to {count - 1}")
        print(f"program {name_of(aux['name'])}, instruction {index} of {count}")
        if line := source_line(aux, index):
            print(f"; {line}")
        first, last = max(0, index - 2), min(count, index + 3)
        for number in range(first, last):
            mark = "=>" if number == index else "  "
            print(f"{mark} {number:4}: {instruction(program, number)}")


BpfProgs()
BpfMaps()
BpfInsn()

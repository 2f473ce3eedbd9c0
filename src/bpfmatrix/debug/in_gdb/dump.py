"""The command bpf-dump: the content of a map, or the instructions of a program."""

import gdb
from bpfmatrix_in_gdb import machine, verifier
from bpfmatrix_in_gdb.arguments import integer, kernels_name
from bpfmatrix_in_gdb.kernel_data import name_of, objects, type_of
from bpfmatrix_in_gdb.values import Types, plain

# The most entries of a map that are shown, unless a number is given.
_MOST = 100
_USAGE = "bpf-dump map ID [ENTRIES], or bpf-dump prog [ID]"


class BpfDump(gdb.Command):
    """Show the content of a map, or the instructions of a program with their lines of C.

    bpf-dump map ID [ENTRIES]: its id or name, of bpf-maps; arrays and hashes, also per CPU.
    bpf-dump prog [ID]: its id or name, of bpf-progs; without one, the program being verified.
    """

    def __init__(self):
        super().__init__("bpf-dump", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        """See gdb.Command."""
        words = gdb.string_to_argv(argument)
        if words[:1] == ["map"] and len(words) in (2, 3):
            most = [integer(word, _USAGE, least=1) for word in words[2:]]
            _dump_map(_find("map_idr", "struct bpf_map", words[1]), *most)
        elif words[:1] == ["prog"] and len(words) == 1:
            _dump_program(verifier.verifier_env()["prog"].dereference())
        elif words[:1] == ["prog"] and len(words) == 2:
            _dump_program(_find("prog_idr", "struct bpf_prog", words[1]))
        else:
            raise gdb.GdbError(_USAGE)


def _find(idr, kind, word):
    is_map = idr == "map_idr"
    for one in objects(idr, kind):
        about = one if is_map else one["aux"]
        name = name_of(about["name"])
        if word == str(int(about["id"])) or kernels_name(word) == name:
            return one
    shown = "bpf-maps" if is_map else "bpf-progs"
    raise gdb.GdbError(f"there is no {'map' if is_map else 'program'} {word}: see `{shown}`")


def _dump_program(program):
    aux = program["aux"]
    print(f"program {name_of(aux['name'])}, {int(program['len'])} instructions")
    source, said, at = verifier.lines(aux), None, 0
    while at < int(program["len"]):
        place = verifier.at(source, at)
        if place and place != said:
            print(f"; {place[0]}:{place[1]}: {place[2]}")
        said = place
        print(f"{at:5}: {verifier.instruction(program, at)}")
        at += 2 if int(program["insnsi"][at]["code"]) == 0x18 else 1


def _dump_map(map, most=_MOST):
    kind = type_of(map["map_type"], "BPF_MAP_TYPE_")
    print(f"map {name_of(map['name'])}, {kind}, at most {int(map['max_entries'])} entries")
    base = kind.removeprefix("percpu_").removeprefix("lru_").removeprefix("percpu_")
    if base == "array":
        entries = _array(map)
    elif base == "hash":
        entries = _hash(map)
    else:
        raise gdb.GdbError(
            f"the content of a map of type {kind} can't be shown, only of arrays and hashes"
        )
    per_cpu = "percpu" in kind
    key_size, value_size = int(map["key_size"]), int(map["value_size"])
    count = 0
    for key, address in entries:
        if count == most:
            print(f"... and more: `bpf-dump map {int(map['id'])} {10 * most}` shows {10 * most}")
            return
        count += 1
        shown = key if isinstance(key, int) else _text(map, "btf_key_type_id", key[:key_size])
        if not per_cpu:
            value = machine.memory(address, value_size)
            print(f"{shown}: {_text(map, 'btf_value_type_id', value)}")
            continue
        for cpu, place in _copies(address):
            value = _text(map, "btf_value_type_id", machine.memory(place, value_size))
            print(f"{shown}, CPU {cpu}: {value}")
    if not count:
        print("it is empty")


def _text(map, field, data):
    id = int(map[field])
    if not map["btf"] or not id:
        return plain(data)
    btf = map["btf"]
    strings = int(btf["strings"])
    types = Types(
        lambda number, size: machine.memory(int(btf["types"][number]), size),
        lambda offset: machine.string(strings + offset),
        machine.byte_order(),
    )
    return types.text(id, data)


def _array(map):
    """Yield the index of each element, and its address, or that of its copies of each CPU."""
    array = map.address.cast(gdb.lookup_type("struct bpf_array").pointer())
    size, start = int(array["elem_size"]), int(array["value"].address)
    is_per_cpu = "PERCPU" in str(map["map_type"])
    for number in range(int(map["max_entries"])):
        yield number, int(array["pptrs"][number]) if is_per_cpu else start + number * size


def _hash(map):
    """Yield the key of each element, and the address of its value, or that of its copies."""
    table = map.address.cast(gdb.lookup_type("struct bpf_htab").pointer())
    element = gdb.lookup_type("struct htab_elem")
    key_at = next(field.bitpos // 8 for field in element.fields() if field.name == "key")
    key_size = int(map["key_size"])
    is_per_cpu = "PERCPU" in str(map["map_type"])
    # Before 6.1, where `pcpu_ma` is new, the pointer to the copies is right behind the key.
    is_packed = is_per_cpu and all(
        field.name != "pcpu_ma" for field in table.type.target().fields()
    )
    rounded = key_size if is_packed else (key_size + 7) // 8 * 8
    buckets, step = table["buckets"], table["buckets"].type.target().sizeof
    first = int(buckets[0]["head"]["first"].address) - int(buckets)
    count, at = int(table["n_buckets"]), 0
    while at < count:
        # Many at a time: each reading of memory takes a while.
        some = min(count - at, 4096)
        data = machine.memory(int(buckets) + at * step, some * step)
        at += some
        for number in range(some):
            node = machine.number(data[number * step + first : number * step + first + 8])
            # An odd pointer is the end of a list (hlist_nulls).
            while node and not node & 1:
                key = machine.memory(node + key_at, key_size)
                value = node + key_at + rounded
                yield key, machine.word(value) if is_per_cpu else value
                node = machine.word(node)


def _copies(address):
    """Yield each CPU that can be there, and the address of its copy of a per-CPU variable."""
    offsets = gdb.lookup_global_symbol("__per_cpu_offset").value()
    present = gdb.lookup_global_symbol("nr_cpu_ids")
    count = int(present.value()) if present else 1
    for cpu in range(count):
        yield cpu, (address + int(offsets[cpu])) & ((1 << 64) - 1)


BpfDump()

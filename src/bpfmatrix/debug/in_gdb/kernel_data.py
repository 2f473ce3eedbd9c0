"""Reading of the kernel's data structures: the lists of programs and maps, and names."""

import gdb


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


def objects(name, type_name):
    symbol = gdb.lookup_static_symbol(name) or gdb.lookup_global_symbol(name)
    if symbol is None:
        raise gdb.GdbError("this vmlinux has no DWARF, which is needed to read the kernel's lists")
    kind = gdb.lookup_type(type_name).pointer()
    for entry in _entries(symbol.value()):
        yield gdb.Value(entry).cast(kind).dereference()


def name_of(chars):
    return chars.string(errors="replace") or "-"


def type_of(value, prefix):
    return str(value).replace(prefix, "").lower()

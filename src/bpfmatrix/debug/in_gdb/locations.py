"""Locations of breakpoints: where a function begins, inlined functions included."""

import json

import gdb


def resolve(names):
    """Print as JSON the location for each breakpoint, or the error.

    `initial` says that it is only reached while the kernel boots.
    """
    results = {}
    for name in names:
        try:
            gdb.execute(f"tbreak {name}", to_string=True)
            results[name] = {"location": _entry_location(name)}
            if _is_initial(name):
                results[name]["initial"] = True
        except gdb.error as error:
            results[name] = {"error": str(error).splitlines()[0]}
    print(f"bpfmatrix:{json.dumps(results)}", flush=True)


def _is_initial(name):
    """Return whether all code at a location is in the section that the kernel frees after boot."""
    try:
        first, end = (_address(symbol) for symbol in ("_sinittext", "_einittext"))
    except gdb.error:
        return False
    locations = gdb.decode_line(name)[1] or ()
    return bool(locations) and all(first <= each.pc < end for each in locations)


def _address(symbol):
    return int(gdb.parse_and_eval(f"(unsigned long)&{symbol}"))


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

"""Which breakpoints a kernel has a place for."""

import json

import gdb


def resolve(names):
    """Print as JSON for each breakpoint the error, if there is one, and `initial`.

    `initial` says that it is only reached while the kernel boots.
    """
    results = {}
    for name in names:
        try:
            gdb.execute(f"tbreak {name}", to_string=True)
            results[name] = {"initial": _is_initial(name)}
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

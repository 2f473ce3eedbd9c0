"""Which breakpoints a kernel has a place for."""

import json

import gdb
from bpfmatrix_in_gdb import entry


def resolve(names):
    """Print as JSON what is wrong with each breakpoint, "" if nothing is, and `entry`.

    `entry` has the functions in which the verifier begins, as far as the kernel has them.
    """
    answer = {"errors": {name: _error(name) for name in names}, "entry": entry.functions()}
    print(f"bpfmatrix:{json.dumps(answer)}", flush=True)


def _error(name):
    try:
        gdb.execute(f"tbreak {name}", to_string=True)
    except gdb.error as error:
        return str(error).splitlines()[0]
    return ""

"""The memory of a guest, from a core file."""

import gdb
from bpfmatrix_in_gdb import session

# The variable with the number of the processor that panicked (kernel/panic.c). It is -1 before.
_PANIC_CPU = "*(int *)&panic_cpu"


def run(path, batch=None, report=None):
    """Read a core file, and show where its kernel panicked.

    With `batch`, run these commands, write the file `report`, and end gdb.
    """
    try:
        gdb.execute(f"core-file {path}", to_string=True)
    except gdb.error as error:
        print(f"gdb can't read the core file: {error}", flush=True)
        session.end(1)
    _select_panicking_cpu()
    gdb.execute("backtrace 10")
    if batch is not None:
        session.run_batch(batch, report)


def _select_panicking_cpu():
    """Select the thread, which stands for a processor, that panicked; if none did, the first."""
    try:
        cpu = int(gdb.parse_and_eval(_PANIC_CPU))
    except gdb.error:
        return  # without DWARF, there are only functions
    for thread in gdb.selected_inferior().threads():
        if thread.num == cpu + 1:
            thread.switch()

"""The memory of a guest, from a core file: which of its processors panicked, and where."""

import gdb
from bpfmatrix_in_gdb import session, stops

# The variable with the number of the processor that panicked (kernel/panic.c). It is -1 before.
_PANIC_CPU = "*(int *)&panic_cpu"
# How far from the innermost frame `panic` may be.
_FRAMES = 20


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
    threads = sorted(gdb.selected_inferior().threads(), key=lambda thread: thread.num)
    try:
        cpu = int(gdb.parse_and_eval(_PANIC_CPU))
        chosen = [thread for thread in threads if thread.num == cpu + 1]
    except gdb.error:  # without DWARF, there are only functions
        chosen = [thread for thread in threads if _is_in_panic(thread)]
    for thread in (*chosen, *threads)[:1]:
        thread.switch()


def _is_in_panic(thread):
    thread.switch()
    frame = gdb.newest_frame()
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if frame.name() in stops.PANICS:
            return True
        frame = frame.older()
    return False

"""The memory of a guest, from a core file: which of its processors panicked, and where."""

import gdb
from bpfmatrix_in_gdb import session

# The variable with the number of the processor that panicked (kernel/panic.c). It is -1 before.
_PANIC_CPU = "*(int *)&panic_cpu"
# The functions in which the other processors wait (smp.c and process.c of x86 and arm64).
_STOPPED = ("stop_this_cpu", "native_halt", "cpu_park_loop", "local_cpu_stop", "ipi_cpu_stop")


def run(path, batch=None, report=None):
    """Read a core file, and show where its kernel panicked.

    With `batch`, run these commands, write the file `report`, and end gdb.
    """
    session.note_begun()
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
        chosen = [thread for thread in threads if not _was_stopped(thread)]
    for thread in (*chosen, *threads)[:1]:
        thread.switch()


def _was_stopped(thread):
    """Return whether a processor is where the one that panicked has sent it."""
    thread.switch()
    return gdb.newest_frame().name() in _STOPPED

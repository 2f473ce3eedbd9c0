"""The beginning of a session: the connection to the guest, and the stop at a panic."""

import contextlib
from pathlib import Path

import gdb

PANICS = ("vpanic", "panic")
"""The kernel panics in the first of these functions that it has; `panic` calls `vpanic`."""


def connect(target):
    """Connect to a guest that has not run its first instruction yet: a path, or HOST:PORT."""
    gdb.execute(f"target remote {target}", to_string=True)


def begin(marker):
    """Stop at a panic, too, and create the file `marker` when a breakpoint is reached."""
    for name in PANICS:
        with contextlib.suppress(gdb.error):  # only newer kernels have vpanic
            gdb.parse_and_eval(name)
            _Panic(name, internal=True)
            break

    def stopped(event):
        if isinstance(event, gdb.BreakpointEvent):
            Path(marker).touch()

    gdb.events.stop.connect(stopped)


class _Panic(gdb.Breakpoint):
    """A breakpoint where the kernel panics."""

    def stop(self):
        print("The kernel panics. `bt` shows why; `continue` lets it go on.")
        return True

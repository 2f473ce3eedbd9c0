"""The beginning of a session: the connection to the guest, and the stop at a panic."""

import contextlib
from pathlib import Path

import gdb

PANICS = ("vpanic", "panic")
"""The kernel panics in the first of these functions that it has; `panic` calls `vpanic`."""


def connect(target):
    """Connect to a guest that waits: `target` is a path, or HOST:PORT.

    Where it waits is not shown: that is of no interest, and a person can ask for it.
    """
    with _without_notifications():
        quietly(f"target remote {target}")


def quietly(command):
    """Run a command of gdb without its output; gdb.error if it fails."""
    gdb.execute(command, to_string=True)


@contextlib.contextmanager
def _without_notifications():
    """Meanwhile, gdb does not print where the guest stops, which is no output of a command."""
    setting = "set suppress-cli-notifications"
    with contextlib.suppress(gdb.error):  # gdb 12 is the first one that has it
        gdb.execute(f"{setting} on")
    try:
        yield
    finally:
        with contextlib.suppress(gdb.error):
            gdb.execute(f"{setting} off")


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

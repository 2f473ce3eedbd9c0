"""The course of a session: the connection, the first stop, and the commands of --batch.

gdb's own `-x FILE` and `-ex COMMAND` go on after an error, and while the guest runs or is gone.
Here, a command is given to gdb only while the guest is stopped. What became of the commands is
written to a file, of which `invoke debug` makes the one sentence that it ends with.
"""

import contextlib
import json
from pathlib import Path

import gdb
from bpfmatrix_in_gdb import stops

# The exit status of what SIGINT ended, as shells have it.
_INTERRUPTED = 130


def run(target, marker, shown, batch=None, report=None):
    """Connect to the guest, let it run to the first stop, and run the commands `shown` there.

    `target` is a path, or HOST:PORT. `marker` is a file that is there once a breakpoint was
    reached. With `batch`, run these commands, too, write the file `report`, and end gdb.
    """
    note_begun()
    is_connected = False
    try:
        stops.connect(target)
        is_connected = True
        error = _continue()
        if error and batch is None:
            print(error, flush=True)
        reached = Path(marker).exists()
        for command in shown if reached else ():
            _try(command)
    except gdb.error as error:
        print(f"gdb can't connect to the guest: {error}", flush=True)
        end(1)
    except KeyboardInterrupt:
        # Ctrl-C stops the guest once gdb is connected; it may come while gdb does something else.
        if not is_connected:
            end(_INTERRUPTED)
        return
    if batch is not None:
        end(_run_batch(batch, Path(report)) if reached else 1)


def note_begun():
    """Note that gdb has come to the end of its file of commands: it ends otherwise."""
    gdb.set_convenience_variable("bpfmatrix_began", 1)


def run_batch(batch, report):
    """Run the commands of a batch where the guest is stopped, and end gdb."""
    end(_run_batch(batch, Path(report)))


def _continue():
    """Let the guest run until it stops, or ends; return gdb's error then, or an empty text."""
    # gdb reads code when it connects. The guest has none before its kernel has mapped it, so gdb
    # is told to read it from the vmlinux.
    gdb.execute("set trust-readonly-sections on")
    # The host says why the machine ended.
    error = _try("continue")
    gdb.execute("set trust-readonly-sections off")
    return error


def _run_batch(commands, report):
    """Run the commands, write what became of them, and return the exit status."""
    failed, interrupts = [], _Interrupts()
    for number, command in enumerate(commands):
        if not _is_stopped():
            _write(report, failed, commands[number:])
            return 1
        error = _try(command)
        # QEMU says that it exits, or closes the connection first, for which gdb has several
        # messages. `kill` and `disconnect` leave no guest either, but that was asked for.
        if gdb.selected_thread() is None and (error or _has_exited()):
            error = "" if _leaves_no_guest(command) else "the machine has ended"
        if error:
            failed.append([command, error])
        elif interrupts.is_idle():
            failed.append([command, "the work has ended, and nothing else stopped the guest"])
    _write(report, failed, [])
    return 1 if failed else 0


def _leaves_no_guest(command):
    """Whether a command is there to leave no guest; gdb takes `k` for `kill`."""
    word = command.split(maxsplit=1)[0]
    return "kill".startswith(word) or word in ("detach", "disconnect")


class _Interrupts:
    """Where the host has stopped the guest: at the end of the work, and each time after that."""

    def __init__(self):
        self._count = self._said = 0
        gdb.events.stop.connect(self._stopped)

    def _stopped(self, event):
        is_signal = isinstance(event, gdb.SignalEvent)
        self._count += is_signal and event.stop_signal == "SIGINT"

    def is_idle(self):
        """Whether the host stopped the guest again since the last call, after the work's end."""
        before, self._said = self._said, self._count
        return self._count > max(1, before)


def _write(report, failed, left):
    report.write_text(json.dumps({"failed": failed, "left": left}))


def _try(command):
    """Run one command of gdb, and return the error's text, or an empty one."""
    try:
        gdb.execute(command)
    except gdb.error as error:
        return str(error).strip().splitlines()[0] or "it failed"
    return ""


def _has_exited():
    """Whether QEMU has said that it exits."""
    return gdb.convenience_variable("_exitcode") is not None


def _is_stopped():
    """Whether gdb has a guest, and the guest is stopped."""
    thread = gdb.selected_thread()
    return thread is not None and thread.is_valid() and thread.is_stopped()


def end(status):
    """End gdb without the words in which it ends the guest, which the host ends."""
    if gdb.selected_thread() is not None:
        _try_quietly("disconnect")
    gdb.execute(f"quit {status}")


def _try_quietly(command):
    with contextlib.suppress(gdb.error):
        stops.quietly(command)

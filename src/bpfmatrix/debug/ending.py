"""How gdb ended, and with it the session: an exit status, or an error of one sentence."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from bpfmatrix.errors import BpfmatrixError

__all__ = ["NOT_BEGUN", "BatchReport", "failure_of_gdb"]

NOT_BEGUN = 120
"""The exit status of a gdb that did not come to the connection, by an error or by Ctrl-C."""


@dataclass(frozen=True)
class BatchReport:
    """What became of the commands of a batch."""

    failed: tuple[tuple[str, str], ...] = ()
    """The commands that gdb could not run, each with gdb's error."""
    left: tuple[str, ...] = ()
    """The commands that were not run, since the guest was not stopped any more."""


def failure_of_gdb(
    status: int,
    breakpoints: Sequence[str],
    batch: Sequence[str] | None,
    *,
    stopped: bool,
    report: BatchReport | None,
    ended: str,
    console: str,
) -> BpfmatrixError | None:
    """Return the error with which the session ends; None if gdb did what it was to do.

    `status` is gdb's exit status, or the negative number of the signal that ended it. `stopped`
    says whether a breakpoint was reached, `ended` how the work in the guest ended, if it did, and
    `console` where the kernel's console is. The report of a batch is None if a command of it ended
    gdb.
    """
    if status < 0:
        return BpfmatrixError(f"gdb was ended by {_signal_name(-status)}")
    if status == NOT_BEGUN:
        return BpfmatrixError(
            "gdb did not connect to the guest: one of its commands failed (its error is above)"
        )
    if batch is None:
        return None
    how = f": {ended}" if ended else ""
    if not stopped:
        commands = "; the commands of --batch were not run" if batch else ""
        return BpfmatrixError(
            f"no breakpoint was reached ({', '.join(breakpoints)}){how}{commands}",
            f"What the kernel said: {console}",
        )
    wrong = []
    if report and report.failed:
        failed = "; ".join(f"`{command}`: {error.rstrip('.')}" for command, error in report.failed)
        wrong.append(f"gdb could not run {failed}")
    if report and report.left:
        left = "; ".join(report.left)
        wrong.append(f"there was no stopped guest any more; not run: `{left}`")
    return BpfmatrixError(f"--batch: {', and '.join(wrong)}") if wrong else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of the numbers without a name
        return f"signal {number}"

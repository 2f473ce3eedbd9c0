"""The top of every command: how an error becomes its sentences and an exit status.

An error that a user can mend, or a fault of the host, is printed without a traceback. Ctrl-C is
KeyboardInterrupt, also if something else failed while the command was being ended.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator

from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.standard_streams import BROKEN_PIPE, forgiving_streams, output_error
from bpfmatrix.errors import BpfmatrixError

__all__ = ["exit_status_of", "exit_with_message", "print_error"]


def print_error(error: BpfmatrixError) -> None:
    """Print what happened and what to do about it, on standard error."""
    with contextlib.suppress(OSError):
        _print(f"error: {error.what}")
        if error.advice:
            _print(f"       {error.advice}")


def _print(text: str) -> None:
    from bpfmatrix.host.text import inert  # noqa: PLC0415 - off the start-up path

    print(inert(text).encode(errors="backslashreplace").decode(), file=sys.stderr, flush=True)


@contextlib.contextmanager
def exit_with_message() -> Iterator[None]:
    """End the process with an error's sentences and its exit status, not with a traceback."""
    try:
        yield
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        raise SystemExit(status) from None


def exit_status_of(command: Callable[[], int | None]) -> int:
    """Run a command, and return its exit status; None of a command means 0.

    Errors of the kinds that a user can mend are printed. KeyboardInterrupt for Ctrl-C. A mistake in
    bpfmatrix is raised as it is.
    """
    with forgiving_streams(), heartbeat.beating():
        try:
            status = command() or 0
        except Exception as error:
            known = _status(error)
            if known is None:
                raise
            status = known
        sys.stdout.flush()
        if unwritten := output_error():
            if unwritten.what:
                print_error(unwritten)
                return unwritten.exit_status if status in (0, BROKEN_PIPE) else status
            return unwritten.exit_status
    return status


def _status(error: Exception) -> int | None:
    """Print an error that has an explanation, and return its exit status; None if it has none."""
    if _was_interrupted(error):
        raise KeyboardInterrupt from error
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return BROKEN_PIPE
    from bpfmatrix.host.faults import explained  # noqa: PLC0415 - off the start-up path

    known = explained(error)
    if known is None:
        return None
    print_error(known)
    return known.exit_status


def _was_interrupted(error: BaseException) -> bool:
    """Whether an error was raised while a KeyboardInterrupt was being handled."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, KeyboardInterrupt):
            return True
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return False

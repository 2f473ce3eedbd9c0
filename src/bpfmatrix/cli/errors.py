"""How an error that a user can mend becomes its sentences and an exit status."""

import contextlib
import sys
from collections.abc import Iterator

from bpfmatrix.errors import BpfmatrixError

__all__ = ["exit_with_message", "print_error"]


def print_error(error: BpfmatrixError) -> None:
    """Print what happened and what to do about it, on standard error."""
    print(f"error: {error.what}", file=sys.stderr)
    if error.advice:
        print(f"       {error.advice}", file=sys.stderr)


@contextlib.contextmanager
def exit_with_message() -> Iterator[None]:
    """End the process with an error's sentences and its exit status, not with a traceback."""
    try:
        yield
    except BpfmatrixError as error:
        print_error(error)
        raise SystemExit(error.exit_status) from None

"""Ctrl-C while nothing has to be cleaned up: it ends the process at once, without a traceback.

Python turns the signal into KeyboardInterrupt, and prints a traceback of it wherever the code of
others is running: while modules are imported, and while the interpreter ends. A command that runs
gets KeyboardInterrupt, and cleans up.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["ending", "raised"]


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Meanwhile, Ctrl-C ends the process."""
    with _meanwhile(signal.default_int_handler, signal.SIG_DFL):
        yield


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Meanwhile, Ctrl-C raises KeyboardInterrupt."""
    with _meanwhile(signal.SIG_DFL, signal.default_int_handler):
        yield


@contextlib.contextmanager
def _meanwhile(before: Any, handler: Any) -> Iterator[None]:
    is_set = _set(before, handler)
    try:
        yield
    finally:
        if is_set:
            _set(handler, before)


def _set(before: Any, handler: Any) -> bool:
    """Set another handler in place of `before`, if that is the present one."""
    # Only the main thread can; a handler that somebody else has set is theirs.
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is before:
        signal.signal(signal.SIGINT, handler)
        return True
    return False

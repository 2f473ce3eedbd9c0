"""Ctrl-C at moments when Python does not handle it well: while modules are imported.

Python raises KeyboardInterrupt wherever the main thread is. In an import that is a traceback of
Python's own, or it is lost: "Exception ignored in ... _get_module_lock". So Ctrl-C ends the process
at once while nothing has to be cleaned up (`ending`). While a command runs (`raised`), it raises
KeyboardInterrupt as soon as no module is being imported, and no event loop is made or closed.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["ending", "plain", "raised"]

_LOOK_AGAIN_SECONDS = 0.02
_IMPORTING = "<frozen importlib._bootstrap>"
_ASYNCIO = f"{os.sep}asyncio{os.sep}"


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Meanwhile, Ctrl-C ends the process."""
    with _meanwhile((signal.default_int_handler,), signal.SIG_DFL):
        yield


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """Meanwhile, Ctrl-C raises KeyboardInterrupt, but never in an import or in asyncio.

    Where Ctrl-C would end the process by the signal before, it ends it with status 130 afterwards,
    as it does meanwhile.
    """
    try:
        with _meanwhile((signal.default_int_handler, signal.SIG_DFL, _end), _raise):
            yield
    finally:
        _end_later()


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Meanwhile, have Python's own handler again: asyncio's runner takes the place of no other."""
    with _meanwhile((_raise,), signal.default_int_handler):
        yield


def _end(number: int, _: FrameType | None) -> None:
    """End the process at once, with the status that a shell gives to a command that it ended."""
    os._exit(128 + number)


def _end_later() -> None:
    if _in_main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, _end)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or have the signal sent again if that would do harm here."""
    if not _does_harm(frame):
        signal.default_int_handler(number, frame)
    main = threading.main_thread().ident
    assert main is not None
    again = threading.Timer(_LOOK_AGAIN_SECONDS, signal.pthread_kill, (main, number))
    again.daemon = True
    again.start()


def _does_harm(frame: FrameType | None) -> bool:
    while frame is not None:
        name = frame.f_code.co_filename
        if name == _IMPORTING or _ASYNCIO in name:
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def _meanwhile(before: tuple[Any, ...], handler: Any) -> Iterator[None]:
    """Set another handler in place of one of these. One that somebody else has set is theirs.

    Where a parent has Ctrl-C ignored, as nohup does, it stays ignored.
    """
    present = signal.getsignal(signal.SIGINT)
    # Only the main thread can set one.
    if present not in before or not _in_main_thread():
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, present)

"""Coroutines run to their end, with Ctrl-C as KeyboardInterrupt whatever else goes wrong."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from bpfmatrix.host import interrupts

__all__ = ["run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as asyncio.run() does.

    On Ctrl-C, asyncio.run() cancels the coroutine. If the coroutine raises another error then, such
    as that of a result that can't be written, asyncio.run() would raise that error: here it is the
    cause of a KeyboardInterrupt.
    """
    interrupted = False

    def note() -> None:
        nonlocal interrupted
        interrupted = True

    async def noted() -> T:
        with _noting(note):
            return await main

    try:
        # asyncio.run() in two steps: an event loop that is being made or closed is not interrupted.
        with asyncio.Runner() as runner, interrupts.plain():
            return runner.run(noted())
    except Exception as error:
        if interrupted:
            raise KeyboardInterrupt from error
        raise


@contextlib.contextmanager
def _noting(note: Callable[[], None]) -> Iterator[None]:
    """Call `note` at each SIGINT, before the handler that asyncio.run() has installed.

    Task.cancelling() does not tell of a SIGINT: Python 3.11's TaskGroup leaves it set if it fails.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    known = handler

    def handle(number: int, frame: Any) -> None:
        note()
        known(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, known)

"""Tells now and then that a test still runs, while nothing comes to its end.

Without that, nobody can tell a test that takes minutes from one that hangs.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Self

__all__ = ["TOLD_EVERY_SECONDS", "SilenceWatch"]

TOLD_EVERY_SECONDS = 30.0


class SilenceWatch:
    """While it is entered, calls `tell` after each interval in which `heard` was not called."""

    def __init__(self, tell: Callable[[float], None], every_seconds: float) -> None:
        """`tell` is given the seconds since `heard` was called."""
        self._tell = tell
        self._every_seconds = every_seconds
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def heard(self) -> None:
        """Take note that something began or ended."""
        self._heard.set()

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the watch."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self) -> None:
        since = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(self._every_seconds):
                    await self._heard.wait()
            except TimeoutError:
                self._tell(time.monotonic() - since)
            else:
                self._heard.clear()
                since = time.monotonic()

"""The guests of the keeper: each runs one command, and the next one is restored meanwhile.

A guest is never used twice, so nothing that a command leaves behind reaches the next one. To use a
guest again would not be faster: to undo what a command left behind (`undo` of guest/init) took as
much processor time as to restore another guest.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.session.guest_session import EnteredGuest, enter
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.parallelism import machines_at_once, machines_in_memory
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm.protocol import setup_line

__all__ = ["Guests"]


@dataclass(frozen=True)
class _Guest:
    entered: EnteredGuest
    stack: contextlib.AsyncExitStack
    """Ends the machine when it is closed."""


class Guests:
    """The guests of one kernel with the same options."""

    def __init__(
        self, project: Project, prepared: Prepared, folder: Path, *, spares: bool = True
    ) -> None:
        """Consoles are written into `folder`. Without `spares`, no guest is made ahead of time."""
        self._project = project
        self._prepared = prepared
        self._folder = folder
        self._limit = machines_at_once([prepared]) if spares else 0
        self._places = asyncio.Semaphore(machines_in_memory([prepared]))
        self._numbers = itertools.count(1)
        self._spares: list[asyncio.Task[_Guest]] = []
        self._used = 0
        self._used_at_once = 0

    @contextlib.asynccontextmanager
    async def one(self, observer: Observer) -> AsyncIterator[EnteredGuest]:
        """Give a guest that is ready for its job, and end it when the context is left.

        Raises what `session.guest_session.enter` raises.
        """
        async with self._places:
            self._used += 1
            self._used_at_once = max(self._used_at_once, self._used)
            try:
                guest = await self._spare() or await self._enter(observer)
                async with guest.stack:
                    self._replenish()
                    yield guest.entered
            finally:
                self._used -= 1

    async def _spare(self) -> _Guest | None:
        """Return a guest that was made ahead of time, if there is one that still runs."""
        while self._spares:
            task = self._spares.pop(0)
            try:
                guest = await asyncio.shield(task)
            except asyncio.CancelledError:
                self._spares.append(task)  # for another call
                raise
            except Exception:  # noqa: S112 - the call starts a guest of its own, and reports that
                continue
            if guest.entered.machine.is_running:
                return guest
            await guest.stack.aclose()
        return None

    def _replenish(self) -> None:
        """Make as many guests ahead of time as there were commands at once."""
        while len(self._spares) < min(self._used_at_once, self._limit):
            self._spares.append(asyncio.create_task(self._enter(Observer())))

    async def _enter(self, observer: Observer) -> _Guest:
        console = self._folder / f"console-{next(self._numbers)}.log"
        async with contextlib.AsyncExitStack() as stack:
            entering = enter(self._project, self._prepared, console, observer)
            entered = await stack.enter_async_context(entering)
            stack.callback(console.unlink, missing_ok=True)
            prepared = self._prepared
            entered.machine.send(setup_line(prepared.setup))
            return _Guest(entered, stack.pop_all())
        raise AssertionError("AsyncExitStack suppresses nothing")

    async def close(self) -> None:
        """End the guests that no command used."""
        for task in self._spares:
            task.cancel()
        for result in await asyncio.gather(*self._spares, return_exceptions=True):
            if isinstance(result, _Guest):
                await result.stack.aclose()
        self._spares.clear()

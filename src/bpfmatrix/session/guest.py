"""A stay in one kernel's guest, whatever it is for, and what its result says of it.

`enter` gives a guest that is ready, restored or booted. A `Stay` notes what became of that, and
tells a `Listener`.
"""

import asyncio
import contextlib
import dataclasses
import shutil
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bpfmatrix import __version__
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.results.model import Outcome
from bpfmatrix.session.observer import Listener
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm import launch, machine, template
from bpfmatrix.vm.protocol import GuestError, ProtocolError

__all__ = ["Entered", "Stay", "cleared", "enter", "failure_of", "now"]


@dataclass(frozen=True)
class Entered:
    """A guest that is ready for its job."""

    guest: machine.Machine
    start: str
    """How it got ready; the first word is `cold` or `warm`."""
    console: Path


@contextlib.asynccontextmanager
async def enter(
    project: Project, prepared: Prepared, console: Path, cold: bool, listener: Listener
) -> AsyncIterator[Entered]:
    """Restore a machine from its template, or boot one where that is not to be had."""
    spec, damaged = prepared.spec, partial(listener.step, prepared.kernel.id, "template")
    async with contextlib.AsyncExitStack() as stack:
        if not cold and spec.slots >= len(spec.folders):
            try:
                saved, made = await template.get(
                    *(spec, project.cache, prepared.image.label, console),
                    lambda why, _=None: damaged(f"discarded: {why}", "made again"),
                )
                try:
                    guest = await stack.enter_async_context(
                        template.restored(saved, spec, console, prepared.host_name)
                    )
                    start = "warm, template made" if made else "warm template"
                    yield Entered(guest, start, console)
                    return
                except launch.RestoreError as error:
                    template.discard(saved, project.cache)
                    damaged(f"discarded: {error}", "booting")
            except template.TemplateError as error:
                damaged(f"can't be made: {error}", "booting")
        console.unlink(missing_ok=True)
        guest = await stack.enter_async_context(launch.start(spec, console))
        yield Entered(guest, "cold", console)


class Stay:
    """One use of one guest. `release` is what its kernel calls itself, once it is up."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        console: Path,
        listener: Listener,
        *,
        cold: bool,
    ) -> None:
        self._project = project
        self._prepared = prepared
        self._listener = listener
        self._cold = cold
        self._began, self._started_at = time.monotonic(), now()
        self._start = ""
        self._seconds_to_ready = 0.0
        self.console = console
        self.release = ""

    @contextlib.asynccontextmanager
    async def begin(self, entered: Entered | None = None) -> AsyncIterator[machine.Machine]:
        """Give a guest that is ready for its job: the one that was entered already, if any."""
        prepared, id = self._prepared, self._prepared.kernel.id
        entrance: contextlib.AbstractAsyncContextManager[Entered]
        if entered:
            entrance = contextlib.nullcontext(entered)
        else:
            entrance = enter(self._project, prepared, self.console, self._cold, self._listener)
        self._listener.doing(id, "boot", "waiting for the guest")
        started = time.monotonic()
        async with entrance as ready:
            self._start, self.release = ready.start, ready.guest.release
            self._seconds_to_ready = time.monotonic() - started
            detail = f"{self._start}, {prepared.accelerator}"
            self._listener.step(id, "boot", detail, f"{self._seconds_to_ready:.2f} s")
            yield ready.guest

    def facts(self) -> dict[str, Any]:
        """Return the fields of a `GuestRun` that tell of the stay, which ends now."""
        image = self._prepared.image
        return {
            "release": self.release or image.release,
            "version": image.version,
            "arch": image.arch,
            "provenance": {**dataclasses.asdict(image.provenance), "digest": image.digest},
            "accelerator": self._prepared.accelerator.name,
            "start": "warm" if self._start.startswith("warm") else "cold",
            "seconds_to_ready": round(self._seconds_to_ready, 3),
            "seconds": round(time.monotonic() - self._began, 3),
            "started_at": self._started_at,
            "tool_version": __version__,
        }


async def failure_of(
    work: Coroutine[None, None, None], limit_seconds: float
) -> tuple[Outcome, str] | None:
    """Do a machine's work, and return what kept it from its end and why; None if nothing did."""
    try:
        async with asyncio.timeout(limit_seconds):
            await work
    except TimeoutError:
        return Outcome.TIMEOUT, f"the run took over {limit_seconds:g} s (timeout.run)"
    except machine.MachineEndedError as ended:
        return Outcome(ended.kind), ended.reason
    except GuestError as error:
        return Outcome.ERROR, str(error)
    except ProtocolError as error:
        return Outcome.LOST, str(error)
    except BpfmatrixError as error:
        return Outcome.ERROR, str(error)
    return None


def cleared(results: Path, id: str) -> Path:
    """Return a kernel's empty folder for logs, so that none is taken for one of an earlier run."""
    folder = results / id
    shutil.rmtree(folder, ignore_errors=True)
    (results / f"{id}.json").unlink(missing_ok=True)
    folder.mkdir(parents=True)
    return folder


def now() -> str:
    """Return the time as results have it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

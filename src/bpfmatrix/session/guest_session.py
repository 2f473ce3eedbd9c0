"""The session of one guest: how it is entered, what ends it early, and the facts of it.

`enter` gives a guest that is ready, restored from a template or booted. A `GuestSession` notes when
and how that happened, for the result.
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
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm import launch, machine, template
from bpfmatrix.vm.protocol import GuestError, ProtocolError

__all__ = ["EnteredGuest", "GuestSession", "cleared", "enter", "failure_of", "unprepared_facts"]


@dataclass(frozen=True)
class EnteredGuest:
    """A guest that is ready for its job."""

    machine: machine.Machine
    start: str
    """How it became ready; the first word is `cold` or `warm`."""
    console: Path


@contextlib.asynccontextmanager
async def enter(
    project: Project, prepared: Prepared, console: Path, cold: bool, observer: Observer
) -> AsyncIterator[EnteredGuest]:
    """Restore a machine from its template, or boot one where no template can be used."""
    spec, damaged = prepared.spec, partial(observer.step, prepared.kernel.id, "template")
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
                    yield EnteredGuest(guest, start, console)
                    return
                except launch.RestoreError as error:
                    template.discard(saved, project.cache)
                    damaged(f"discarded: {error}", "booting")
            except template.TemplateError as error:
                damaged(f"can't be made: {error}", "booting")
        console.unlink(missing_ok=True)
        guest = await stack.enter_async_context(launch.start(spec, console))
        yield EnteredGuest(guest, "cold", console)


class GuestSession:
    """What is known of one guest session, from its begin on."""

    def __init__(
        self, project: Project, prepared: Prepared, console: Path, observer: Observer, *, cold: bool
    ) -> None:
        self._project = project
        self._prepared = prepared
        self._observer = observer
        self._cold = cold
        self._began, self._started_at = time.monotonic(), _now()
        self._start = ""
        self._seconds_to_ready = 0.0
        self._release = ""
        self.console = console
        """The file that the kernel's console is written to."""

    @contextlib.asynccontextmanager
    async def begin(self, entered: EnteredGuest | None = None) -> AsyncIterator[EnteredGuest]:
        """Give a guest that is ready for its job: `entered`, or one that is started now."""
        prepared, id = self._prepared, self._prepared.kernel.id
        entrance: contextlib.AbstractAsyncContextManager[EnteredGuest]
        if entered:
            entrance = contextlib.nullcontext(entered)
        else:
            entrance = enter(self._project, prepared, self.console, self._cold, self._observer)
        self._observer.doing(id, "boot", "waiting for the guest")
        started = time.monotonic()
        async with entrance as ready:
            self._start, self._release = ready.start, ready.machine.release
            self._seconds_to_ready = time.monotonic() - started
            detail = f"{self._start}, {prepared.accelerator}"
            self._observer.step(id, "boot", detail, f"{self._seconds_to_ready:.2f} s")
            yield ready

    def facts(self) -> dict[str, Any]:
        """Return the fields of a `GuestRun` that tell of the session, which ends now."""
        image = self._prepared.image
        return {
            "release": self._release or image.release,
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


def unprepared_facts(kernel: KernelConfig) -> dict[str, Any]:
    """Return the fields of a `GuestRun` for a kernel that could not even be booted."""
    return {"arch": kernel.arch, "started_at": _now(), "tool_version": __version__}


async def failure_of(
    work: Coroutine[None, None, None], limit_seconds: float | None
) -> tuple[Outcome, str] | None:
    """Await `work`; return what ended it early, as an outcome and a reason, or None."""
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
    """Return a kernel's empty folder for logs; the result of an earlier run is removed, too."""
    folder = results / id
    shutil.rmtree(folder, ignore_errors=True)
    (results / f"{id}.json").unlink(missing_ok=True)
    folder.mkdir(parents=True)
    return folder


def _now() -> str:
    """Return the time as results have it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

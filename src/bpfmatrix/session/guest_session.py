"""The session of one guest: how it begins, what can end it early, and what is known of it.

`enter` gives a guest that is ready for its job, restored from a template or booted. A
`GuestSession` records when and how that happened, for the result. `failure_of` turns whatever ended
the session early into an outcome and a reason.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bpfmatrix import __version__
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.faults import explained
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm import dump, launch, machine, template
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.protocol import GuestError, ProtocolError

__all__ = ["EnteredGuest", "GuestSession", "enter", "failure_of", "unprepared_facts"]


@dataclass(frozen=True)
class EnteredGuest:
    """A guest that is ready for its job."""

    machine: machine.Machine
    start: str
    """How it became ready; the first word is `cold` or `warm`."""
    console: Path
    """The file that the kernel's console is written to."""


@contextlib.asynccontextmanager
async def enter(
    project: Project, prepared: Prepared, console: Path, observer: Observer
) -> AsyncIterator[EnteredGuest]:
    """Give a guest that is ready for its job, and end its machine when the context is left.

    The guest is restored from its template, which is made first if there is none. The kernel is
    booted instead if the options ask for that, or if no template can be used; the observer is told
    why not. MachineEndedError, MachineError or ProtocolError if the guest does not become ready.
    """
    spec = prepared.spec
    async with contextlib.AsyncExitStack() as stack:
        entered = None
        # Folders of the host are plugged into the slots of a restored machine.
        why_cold = "" if prepared.options.cold else template.obstacle(spec)
        can_restore = not why_cold and spec.slots >= len(spec.folders)
        if not prepared.options.cold and can_restore:
            entered = await _restore(stack, project, prepared, console, observer)
        if entered is None:
            console.unlink(missing_ok=True)
            guest = await stack.enter_async_context(launch.start(spec, console))
            start = f"cold ({why_cold})" if why_cold else "cold"
            entered = EnteredGuest(guest, start, console)
        yield entered


async def _restore(
    stack: contextlib.AsyncExitStack,
    project: Project,
    prepared: Prepared,
    console: Path,
    observer: Observer,
) -> EnteredGuest | None:
    """Restore a guest from its template; None if that is not possible."""
    spec, cache, label = prepared.spec, project.cache, prepared.image.label

    def report(detail: str, result: str = "booting") -> None:
        observer.step(prepared.kernel.id, "template", detail, result)

    def report_discarded(text: str, fraction: float | None = None) -> None:
        report(f"discarded: {text}", "made again")

    try:
        saved, made = await template.get(spec, cache, label, console, report_discarded)
    except template.TemplateError as error:
        report(f"can't be made: {error}")
        return None
    restored = template.restored(saved, spec, console, prepared.host_name)
    try:
        guest = await stack.enter_async_context(restored)
    except launch.RestoreError as error:
        template.discard(saved, cache)
        report(f"discarded: {error}")
        return None
    return EnteredGuest(guest, "warm, template made" if made else "warm template", console)


class GuestSession:
    """What is known of one guest session, from its beginning on."""

    def __init__(
        self, project: Project, prepared: Prepared, console: Path, observer: Observer
    ) -> None:
        self._project = project
        self._prepared = prepared
        self._observer = observer
        self._began, self._started_at = time.monotonic(), _now()
        self._start = ""
        self._seconds_to_ready = 0.0
        self._release = ""
        self._guests = 0
        self._dumps: list[str] = []
        self.console = console
        """The file that the kernel's console is written to."""

    @contextlib.asynccontextmanager
    async def begin(self, entered: EnteredGuest | None = None) -> AsyncIterator[EnteredGuest]:
        """Give a guest that is ready for its job: `entered`, or else one that is started now.

        The console of a second guest of the session is in `console-2.log`, and so on.
        """
        prepared, id = self._prepared, self._prepared.kernel.id
        self._guests += 1
        number, console = self._guests, self.console
        if number > 1:
            console = console.with_stem(f"{console.stem}-{number}")
        entrance: contextlib.AbstractAsyncContextManager[EnteredGuest]
        if entered:
            entrance = contextlib.nullcontext(entered)
        else:
            entrance = enter(self._project, prepared, console, self._observer)
        if number == 1:
            self._observer.doing(id, "boot", "waiting for the guest")
        started = time.monotonic()
        async with self._with_dump(console), entrance as ready:
            if number == 1:
                self._start, self._release = ready.start, ready.machine.release
                self._seconds_to_ready = time.monotonic() - started
                detail = f"{self._start}, {prepared.accelerator}"
                self._observer.step(id, "boot", detail, f"{self._seconds_to_ready:.2f} s")
            try:
                yield ready
            finally:
                if why := ready.machine.dump_failure:
                    self._observer.note(f"no core file of the guest's memory: {why}")

    @contextlib.asynccontextmanager
    async def _with_dump(self, console: Path) -> AsyncIterator[None]:
        """Note the core file that a guest with this console leaves, also if it never gets ready."""
        path = dump.path_beside(console)
        path.unlink(missing_ok=True)
        try:
            yield
        finally:
            if path.exists():
                self._dumps.append(self._project.relative(path))

    def facts(self) -> dict[str, Any]:
        """Return the fields of a `GuestRun` that describe the session, which ends now."""
        image = self._prepared.image
        return {
            "release": self._release or image.release,
            "version": image.version,
            "arch": image.arch,
            "provenance": {**dataclasses.asdict(image.provenance), "digest": image.digest},
            "rootfs": self._prepared.rootfs,
            "accelerator": self._prepared.accelerator.name,
            "start": "warm" if self._start.startswith("warm") else "cold",
            "seconds_to_ready": round(self._seconds_to_ready, 3),
            "seconds": round(time.monotonic() - self._began, 3),
            "started_at": self._started_at,
            "dumps": tuple(self._dumps),
            "tool_version": __version__,
        }


def unprepared_facts(kernel: KernelConfig) -> dict[str, Any]:
    """Return the fields of a `GuestRun` for a kernel that could not be prepared."""
    return {"arch": kernel.arch, "started_at": _now(), "tool_version": __version__}


async def failure_of(
    work: Coroutine[None, None, None], limit: Limit | None
) -> tuple[Outcome, str] | None:
    """Await `work`; return the outcome and the reason if it ended early, else None.

    `limit` is that of the whole run, or None for no limit.
    """
    try:
        async with asyncio.timeout(limit.seconds if limit else None) as waiting:
            await work
    except TimeoutError:
        if not waiting.expired():
            raise
        return Outcome.TIMEOUT, f"the run took over {limit}"
    except machine.MachineEndedError as ended:
        return Outcome(ended.kind), ended.reason
    except (BpfmatrixError, GuestError) as error:
        return Outcome.ERROR, str(error)
    except ProtocolError as error:
        return Outcome.LOST, str(error)
    except OSError as error:
        # A user can cause some of them, such as by a log on a full disk; all else is a bug.
        known = explained(error)
        if known is None:
            raise
        return Outcome.ERROR, str(known)
    return None


def _now() -> str:
    """Return the time in the format of results: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")

"""One kernel's run, from a machine that is prepared to a `KernelRun`.

`enter` gives a guest that is ready, restored or booted; `execute` hands it the tests, collects what
comes, and writes the result. Both tell a `Listener` what happens.
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

from bpfmatrix import __version__, results
from bpfmatrix.config import KernelConfig
from bpfmatrix.cores import CoreFiles
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.expectations import Expected
from bpfmatrix.listener import Listener
from bpfmatrix.options import Options
from bpfmatrix.preparation import Prepared
from bpfmatrix.project import Project
from bpfmatrix.recorder import Recorder
from bpfmatrix.results import KernelRun, Outcome, TestResult
from bpfmatrix.vm import launch, machine, template
from bpfmatrix.vm.protocol import CorePart, Exited, GuestError, Output, ProtocolError, Started

__all__ = ["Entered", "enter", "execute", "failed_to_prepare", "failure_of"]


def failed_to_prepare(
    project: Project, kernel: KernelConfig, error: BpfmatrixError, listener: Listener
) -> KernelRun:
    """Return, and write, the result of a kernel that could not even be booted."""
    run = KernelRun(
        kernel.id,
        Outcome.ERROR,
        str(error),
        arch=kernel.arch,
        started_at=_now(),
        tool_version=__version__,
    )
    _clear(project, kernel.id)
    results.write(run, project.results / f"{kernel.id}.json")
    listener.finished(run)
    return run


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


async def execute(
    project: Project,
    prepared: Prepared,
    options: Options,
    listener: Listener,
    entered: Entered | None = None,
) -> KernelRun:
    """Boot a kernel, run the tests there, write the result and return it.

    `entered` is a guest that is ready already. Cancelled, it writes what it has as `interrupted`
    before it lets go.
    """
    folder = _clear(project, prepared.kernel.id)
    run = _Run(project, prepared, options, listener, folder, entered)
    started = time.monotonic()
    try:
        if failure := await failure_of(run.go(), prepared.kernel.timeout.run):
            await run.fail(*failure)
    except asyncio.CancelledError:
        await run.fail(Outcome.INTERRUPTED, "interrupted")
        run.finish(time.monotonic() - started)
        raise
    finally:
        run.close()
    return run.finish(time.monotonic() - started)


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


def _clear(project: Project, id: str) -> Path:
    """Empty the folder of a kernel's logs, so that none is taken for one of the next run."""
    folder = project.results / id
    shutil.rmtree(folder, ignore_errors=True)
    (project.results / f"{id}.json").unlink(missing_ok=True)
    folder.mkdir(parents=True)
    return folder


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Run:
    """What is known of a run while it goes on."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        options: Options,
        listener: Listener,
        folder: Path,
        entered: "Entered | None",
    ) -> None:
        self._project = project
        self._prepared = prepared
        self._options = options
        self._listener = listener
        self._recorders: list[Recorder] = []
        self._tests: list[TestResult] = []
        self._failure: tuple[Outcome, str] | None = None
        self._entrance: contextlib.AbstractAsyncContextManager[Entered]
        self._started_at = _now()
        self._release = ""
        self._seconds_to_ready = 0.0
        self._oops = False
        self._start = ""
        self._console_bytes = 0
        self._cores = CoreFiles(folder)
        self._expected = Expected.of(prepared.kernel.expect, prepared.image.version)
        if entered is None:
            self._console = folder / "console.log"
            self._entrance = enter(project, prepared, self._console, options.cold, listener)
        else:
            self._console = entered.console
            self._entrance = contextlib.nullcontext(entered)
        for test, command in prepared.tests:
            log = folder / f"{test.name}.log"
            limit = "--timeout" if options.test_seconds else "timeout.test"
            self._recorders.append(Recorder(test, command, log, limit, self._report))

    def _report(self, test: TestResult) -> None:
        reason = self._expected.of_test(test.name, test.outcome)
        test = dataclasses.replace(test, expected=reason)
        self._tests.append(test)
        self._listener.test(self._prepared.kernel.id, test)

    async def go(self) -> None:
        """Boot, hand over the job, and take in the events until the guest is done."""
        id, started = self._prepared.kernel.id, time.monotonic()
        self._listener.doing(id, "boot", "waiting for the guest")
        recorders = {recorder.id: recorder for recorder in self._recorders}
        async with self._entrance as entered:
            self._start, self._release = entered.start, entered.guest.release
            self._seconds_to_ready = time.monotonic() - started
            detail = f"{self._start}, {self._prepared.accelerator}"
            self._listener.step(id, "boot", detail, f"{self._seconds_to_ready:.2f} s")
            async for event in entered.guest.run(self._prepared.job):
                match event:
                    case Started():
                        self._console_bytes = self._console_bytes or _size(self._console)
                        self._listener.doing(id, "test", recorders[event.id].name)
                        await recorders[event.id].start()
                    case Output():
                        await recorders[event.id].feed(event.data)
                    case CorePart():
                        self._cores.feed(event)
                    case Exited():
                        newly = event.oops and not self._oops
                        self._oops = event.oops
                        exited = dataclasses.replace(event, oops=newly)
                        await recorders[event.id].close(exited)

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """Take note that the machine did not do its job to the end."""
        done = len(self._tests)
        for recorder in self._recorders:
            await recorder.abandon(outcome, reason)
        after = f" after {done} test{'s' if done != 1 else ''}" if self._release else ""
        told = {
            Outcome.PANIC: f"panic{after}: {reason}",
            Outcome.LOST: f"machine lost{after}: {reason}",
        }
        self._failure = (outcome, told.get(outcome, reason))

    def close(self) -> None:
        """End what reads the tests' outputs, however the run ended."""
        for recorder in self._recorders:
            recorder.kill()
        self._cores.close()

    def _trace(self) -> tuple[str, ...]:
        """Return the call trace of what broke the kernel while tests ran."""
        from bpfmatrix.debug import symbols, trace  # noqa: PLC0415 - seldom needed

        try:
            said = self._console.read_bytes()[self._console_bytes :]
        except OSError:
            return ()
        frames = trace.find(said.decode(errors="replace"))
        project, image = self._project, self._prepared.image
        if known := symbols.at_hand(project.root, image, project.cache):
            frames = trace.located(frames, known)
        return tuple(trace.shown(frames))

    def _keep_executables(self) -> None:
        """Put beside core files what they are read with: a later build replaces it."""
        if not self._cores.found:
            return
        folder = self._cores.found[0].parent
        begun = [recorder.id for recorder in self._recorders if recorder.log.exists()]
        for test, command in self._prepared.tests:
            if command.id in begun:
                with contextlib.suppress(OSError):  # such as a full disk
                    shutil.copy(test.path, folder / test.path.name)

    def finish(self, seconds: float) -> KernelRun:
        """Write the result and return it."""
        outcome, reason = self._failure or results.verdict(self._tests)
        if outcome is Outcome.ERROR and self._options.run and not self._tests:
            reason = f"no test ran: --run {self._options.run!r} matches none"
        image, relative = self._prepared.image, self._project.relative
        run = KernelRun(
            self._prepared.kernel.id,
            outcome,
            reason,
            release=self._release or image.release,
            version=image.version,
            arch=image.arch,
            provenance={**dataclasses.asdict(image.provenance), "digest": image.digest},
            accelerator=self._prepared.accelerator.name,
            start="warm" if self._start.startswith("warm") else "cold",
            seconds_to_ready=round(self._seconds_to_ready, 3),
            seconds=round(seconds, 3),
            started_at=self._started_at,
            tests=tuple(self._tests),
            console=relative(self._console),
            trace=self._trace() if outcome is Outcome.PANIC or self._oops else (),
            console_bytes_before_tests=self._console_bytes,
            logs=tuple(relative(r.log) for r in self._recorders if r.log.exists()),
            cores=tuple(map(relative, self._cores.found)),
            tool_version=__version__,
        )
        self._keep_executables()
        results.write(run, self._project.results / f"{run.kernel}.json")
        self._listener.finished(run)
        return run

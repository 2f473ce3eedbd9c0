"""One kernel's tests, from a machine that is prepared to a `KernelRun` that is written."""

import asyncio
import contextlib
import dataclasses
import shutil
from pathlib import Path

from bpfmatrix import __version__
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.results import model
from bpfmatrix.results.expectations import Expected
from bpfmatrix.results.model import KernelRun, Outcome, TestResult
from bpfmatrix.session.guest import Entered, Stay, cleared, failure_of, now
from bpfmatrix.session.observer import Listener
from bpfmatrix.session.options import Options
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.suite.core_files import CoreFiles
from bpfmatrix.suite.recorder import Recorder
from bpfmatrix.vm.protocol import CorePart, Exited, Output, Started

__all__ = ["execute", "failed_to_prepare"]


def failed_to_prepare(
    project: Project, kernel: KernelConfig, error: BpfmatrixError, listener: Listener
) -> KernelRun:
    """Return, and write, the result of a kernel that could not even be booted."""
    run = KernelRun(
        kernel.id,
        Outcome.ERROR,
        str(error),
        arch=kernel.arch,
        started_at=now(),
        tool_version=__version__,
    )
    cleared(project.results, kernel.id)
    model.write(run, project.results / f"{kernel.id}.json")
    listener.finished(run)
    return run


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
    folder = cleared(project.results, prepared.kernel.id)
    run = _Run(project, prepared, options, listener, folder, entered)
    try:
        if failure := await failure_of(run.go(), prepared.kernel.timeout.run):
            await run.fail(*failure)
    except asyncio.CancelledError:
        await run.fail(Outcome.INTERRUPTED, "interrupted")
        run.finish()
        raise
    finally:
        run.close()
    return run.finish()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Run:
    """What is known of a run while it goes on."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        options: Options,
        listener: Listener,
        folder: Path,
        entered: Entered | None,
    ) -> None:
        self._project = project
        self._prepared = prepared
        self._options = options
        self._listener = listener
        self._recorders: list[Recorder] = []
        self._tests: list[TestResult] = []
        self._failure: tuple[Outcome, str] | None = None
        console = entered.console if entered else folder / "console.log"
        self._stay = Stay(project, prepared, console, listener, cold=options.cold)
        self._entered = entered
        self._oops = False
        self._console_bytes = 0
        self._cores = CoreFiles(folder)
        self._expected = Expected.of(prepared.kernel.expect, prepared.image.version)
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
        id = self._prepared.kernel.id
        recorders = {recorder.id: recorder for recorder in self._recorders}
        async with self._stay.begin(self._entered) as guest:
            async for event in guest.run(self._prepared.job):
                match event:
                    case Started():
                        self._console_bytes = self._console_bytes or _size(self._stay.console)
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
        after = f" after {done} test{'s' if done != 1 else ''}" if self._stay.release else ""
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
        from bpfmatrix.kernels import symbols  # noqa: PLC0415 - seldom needed
        from bpfmatrix.kernels.symbols import call_trace  # noqa: PLC0415

        try:
            said = self._stay.console.read_bytes()[self._console_bytes :]
        except OSError:
            return ()
        frames = call_trace.find(said.decode(errors="replace"))
        project, image = self._project, self._prepared.image
        if known := symbols.at_hand(project.root, image, project.cache):
            frames = call_trace.located(frames, known)
        return tuple(call_trace.formatted(frames))

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

    def finish(self) -> KernelRun:
        """Write the result and return it."""
        outcome, reason = self._failure or model.verdict(self._tests)
        if outcome is Outcome.ERROR and self._options.run and not self._tests:
            reason = f"no test ran: --run {self._options.run!r} matches none"
        relative = self._project.relative
        run = KernelRun(
            self._prepared.kernel.id,
            outcome,
            reason,
            **self._stay.facts(),
            tests=tuple(self._tests),
            console=relative(self._stay.console),
            trace=self._trace() if outcome is Outcome.PANIC or self._oops else (),
            console_bytes_before_tests=self._console_bytes,
            logs=tuple(relative(r.log) for r in self._recorders if r.log.exists()),
            cores=tuple(map(relative, self._cores.found)),
        )
        self._keep_executables()
        model.write(run, self._project.results / f"{run.kernel}.json")
        self._listener.finished(run)
        return run

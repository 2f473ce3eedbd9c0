"""Running the tests: the workload of `run`, `matrix`, `watch` and of every nox session.

Each test executable has a `Recorder`, which turns its output into results. The whole run becomes a
`KernelRun`, which is kept in `.bpfmatrix/results/<kernel>.json`.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.config.settings import merged
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.payload.model import Executable, Payload
from bpfmatrix.results import cache
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.kernel_run import KernelRun, Leftover, TestResult, verdict
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession, unprepared_facts
from bpfmatrix.session.kernel_warnings import WarningCollector
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.project_payload import project_payload
from bpfmatrix.session.workload import MatrixWorkload, Work
from bpfmatrix.suite import formats
from bpfmatrix.suite.core_files import CoreFiles
from bpfmatrix.suite.fingerprint import fingerprint
from bpfmatrix.suite.hints import memlock_hint
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.recorder import Recorder
from bpfmatrix.suite.silence import TOLD_EVERY_SECONDS, SilenceWatch
from bpfmatrix.vm.console import Console
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.machine import MachineEndedError
from bpfmatrix.vm.protocol import (
    REPORTS_FOLDER,
    CorePart,
    Event,
    Exited,
    GuestError,
    Left,
    Output,
    ProtocolError,
    Report,
    Started,
    TestCommand,
)

__all__ = ["SuiteWork", "SuiteWorkload", "test_commands", "unprepared_run"]

# The formats of executables that are one test each, or may be.
_SINGLE = ("plain", "automake", "auto")
TestCommands = tuple[tuple[Executable, TestCommand], ...]


def test_commands(prepared: Prepared, options: RunOptions, limit: Limit | None) -> TestCommands:
    """Return the command of each test that is to run; `limit` replaces the limit of each.

    BpfmatrixError if `--run` matches none.
    """
    payload = _configured(prepared, options)
    commands = payload.commands(options.run, options.arguments)
    if not commands:
        raise BpfmatrixError(
            f"--run {options.run!r} matches none of: {', '.join(t.name for t in payload.tests)}",
            "No test ran.",
        )
    return tuple(
        (test, _command(number, prepared, options, test, argv, limit))
        for number, (test, argv) in enumerate(commands, start=1)
    )


def _configured(prepared: Prepared, options: RunOptions) -> Payload:
    """Return the payload, each test with the settings of the profile and of the command line."""
    tests = []
    for test in prepared.payload.tests:
        settings = merged(test.settings, prepared.kernel.profile, options.settings)
        format = settings.format or test.format
        tests.append(dataclasses.replace(test, settings=settings, format=format))
    return dataclasses.replace(prepared.payload, tests=tuple(tests))


def _command(
    number: int,
    prepared: Prepared,
    options: RunOptions,
    test: Executable,
    argv: tuple[str, ...],
    limit: Limit | None,
) -> TestCommand:
    seconds = (limit or _limit(prepared, options, test)).seconds
    place, start = prepared.at_its_place(test, prepared.start_with(test.settings, test.folder))
    report = f"{number}.xml"
    path = f"{REPORTS_FOLDER}/{report}"
    added = formats.arguments(test.format, path)
    if not any(path in word for word in added):
        report = ""
    return TestCommand(number, (place, *argv[1:], *added), seconds, start=start, report=report)


def _limit(prepared: Prepared, options: RunOptions, test: Executable) -> Limit:
    """Return the time limit of a test, with the option or the key that sets it."""
    if options.test_seconds:
        return Limit(options.test_seconds, "--timeout")
    if own := test.settings.limits.time:
        return prepared.limit(own, "limits.time")
    return prepared.limit(prepared.kernel.timeout.test, "timeout.test")


class SuiteWorkload(MatrixWorkload[KernelRun]):
    """The tests that a project declares, or the executables that `options` names."""

    options: RunOptions

    def __init__(self, project: Project, options: RunOptions) -> None:
        super().__init__(options, project.results)
        self._project = project
        self.payloads: dict[str, Payload] = {}
        """What was built, by architecture."""

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See Workload."""
        options = self.options
        built = project_payload(self._project, arch, options.binaries, options, observer)
        self.payloads[arch] = built
        return built

    def work(self, prepared: Prepared, observer: Observer) -> "SuiteWork":
        """See Workload."""
        commands = self._commands(prepared)
        folder = self.folder / prepared.kernel.id
        return SuiteWork(self._project, prepared, commands, self.options, observer, folder)

    def _commands(self, prepared: Prepared) -> TestCommands:
        return test_commands(prepared, self.options, None)

    def unprepared(self, kernel: KernelConfig, reason: str) -> KernelRun:
        """See MatrixWorkload."""
        return unprepared_run(kernel, reason)

    def recall(self, prepared: Prepared) -> KernelRun | None:
        """See MatrixWorkload."""
        key = self._fingerprint(prepared) if self.options.cached else None
        return cache.recall(self._project, cache.RUNS, key) if key else None

    def remember(self, prepared: Prepared, result: KernelRun) -> None:
        """See MatrixWorkload."""
        if result.outcome is Outcome.PASSED and (key := self._fingerprint(prepared)):
            cache.remember(self._project, cache.RUNS, key, result)

    def _fingerprint(self, prepared: Prepared) -> str | None:
        return fingerprint(prepared, self._commands(prepared))


def unprepared_run(kernel: KernelConfig, reason: str) -> KernelRun:
    """Return the result of a kernel that could not be prepared."""
    return KernelRun(kernel.id, Outcome.ERROR, reason, **unprepared_facts(kernel))


class SuiteWork(Work[KernelRun]):
    """One kernel's run of the tests."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        commands: TestCommands,
        options: RunOptions,
        observer: Observer,
        folder: Path,
        limit: Limit | None = None,
    ) -> None:
        """`limit` is that of each test, which the commands have, too.

        By default, it is that of the options or of kernels.yaml.
        """
        super().__init__(folder)
        self.limit = prepared.run_limit
        self._project = project
        self._prepared = prepared
        self._commands = commands
        self._options = options
        self._observer = observer
        self._tests: list[TestResult] = []
        self._waiting = commands
        self._warnings = WarningCollector(prepared.kernel, prepared.image.version)
        self._leftovers: list[Leftover] = []
        self._failure: tuple[Outcome, str] | None = None
        self._entered = False
        self._running = ""
        """The names of the tests that run, or of the executable that ended last."""
        self._silence = SilenceWatch(self._tell_silence, TOLD_EVERY_SECONDS)
        self._oops = False
        """Whether the kernel of the present guest had an oops."""
        self._oopsed = False
        """Whether the kernel of any guest had an oops."""
        self._console, self._console_bytes = self.console, 0
        """The console of the first guest that ended early or had an oops, or else the last one."""
        self._core_files = CoreFiles(folder)
        tests = prepared.payload.tests
        names = [test.name for test in tests if test.format not in _SINGLE]
        observer.executables(prepared.kernel.id, names)
        self._expected = Expectations.of(prepared.kernel.expect, prepared.image.version)
        self._recorders = {
            command.id: Recorder(
                test,
                command,
                folder / f"{test.name}.log",
                limit or _limit(prepared, options, test),
                self._report,
            )
            for test, command in commands
        }

    def _report(self, test: TestResult) -> None:
        if reason := self._expected.of_test(test.binary, test.name, test.outcome):
            test = dataclasses.replace(test, expected=reason)
        self._tests.append(test)
        self._silence.heard()
        self._observer.result(self._prepared.kernel.id, test)

    async def attend(self, entered: EnteredGuest) -> None:
        """See Work."""
        console = entered.machine.console
        self._entered = True
        commands, self._waiting = self._of_next_guest()
        job = self._prepared.job([command for _, command in commands])
        console.take()  # what the kernel printed while it booted
        self._oops, self._running = False, ""
        if not (self._failure or self._oopsed):
            self._console, self._console_bytes = entered.console, _size(entered.console)
        try:
            await self._take_events(entered.machine.run(job), console)
        except MachineEndedError as ended:
            if not self._isolated:
                raise
            await self.fail(Outcome(ended.kind), ended.reason)
        except ProtocolError as error:
            if not self._isolated or isinstance(error, GuestError):
                raise
            await self.fail(Outcome.LOST, str(error))
        finally:
            self._warnings.feed(console.take(), self._running)

    async def _take_events(self, events: AsyncIterator[Event], console: Console) -> None:
        recorders = self._recorders
        async with self._silence:
            async for event in events:
                self._warnings.feed(console.take(), self._running)
                match event:
                    case Started():
                        await recorders[event.id].start()
                        self._see(recorders[event.id].running)
                    case Output() | Report():
                        await recorders[event.id].take(event)
                        self._see(recorders[event.id].running)
                    case CorePart():
                        self._core_files.feed(event)
                    case Exited():
                        self._warnings.see_taint(event.warned, self._running)
                        newly = event.oops and not self._oops
                        self._oops = event.oops
                        self._oopsed = self._oopsed or event.oops
                        await recorders[event.id].close(dataclasses.replace(event, oops=newly))
                        self._see(recorders[event.id].name)
                    case Left():
                        self._leftovers.append(Leftover(recorders[event.id].name, event.what))

    def _see(self, running: str) -> None:
        """Take note of which tests run."""
        if running != self._running:
            self._running = running
            self._observer.doing(self._prepared.kernel.id, "test", running)
            self._silence.heard()

    def _tell_silence(self, seconds: float) -> None:
        if self._running:
            self._observer.still_running(self._prepared.kernel.id, self._running, seconds)

    @property
    def _isolated(self) -> bool:
        return self._prepared.kernel.isolation == "test"

    def _of_next_guest(self) -> tuple[TestCommands, TestCommands]:
        """Return the commands that the next guest runs, and those that wait for another one."""
        count = 1 if self._isolated else len(self._waiting)
        return self._waiting[:count], self._waiting[count:]

    @property
    def needs_another_guest(self) -> bool:
        """See Work."""
        return bool(self._waiting)

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """See Work."""
        done = len(self._tests)
        for recorder in self._recorders.values():
            await recorder.abandon(outcome, reason)
        after = f" after {done} test{'s' if done != 1 else ''}" if self._entered else ""
        reasons = {
            Outcome.PANIC: f"panic{after}: {reason}",
            Outcome.LOST: f"machine lost{after}: {reason}",
        }
        self._failure = self._failure or (outcome, reasons.get(outcome, reason))

    def close(self) -> None:
        """See Work."""
        for recorder in self._recorders.values():
            recorder.kill()
        self._core_files.close()

    def result(self, session: GuestSession) -> KernelRun:
        """See Work."""
        warnings = self._warnings.close()
        outcome, reason = self._failure or verdict(self._tests)
        if outcome in FINE and (failure := self._warnings.failure()):
            outcome, reason = Outcome.FAILED, failure
        if self._options.run and not self._failure and not self._tests:
            reason = f"no test ran: --run {self._options.run!r} matches none"
        relative, logs = self._project.relative, [r.log for r in self._recorders.values()]
        run = KernelRun(
            self._prepared.kernel.id,
            outcome,
            reason,
            **session.facts(),
            tests=tuple(self._tests),
            warnings=warnings,
            leftovers=tuple(self._leftovers),
            console=relative(self._console),
            trace=self._trace() if outcome is Outcome.PANIC or self._oopsed else (),
            console_bytes_before_tests=self._console_bytes,
            logs=tuple(relative(log) for log in logs if log.exists()),
            cores=tuple(map(relative, self._core_files.found)),
            hints=self._hints(),
            options=self._options.words,
        )
        self._keep_executables()
        return run

    def _hints(self) -> tuple[str, ...]:
        starts = {test.name: command.start for test, command in self._commands}
        tests = [(test, starts[test.binary]) for test in self._tests]
        hint = memlock_hint(self._prepared.image.version, tests)
        return (hint,) if hint else ()

    def _trace(self) -> tuple[str, ...]:
        """Return the call trace of a panic or an oops while the tests ran."""
        from bpfmatrix.kernels.symbols import call_trace, debug_info  # noqa: PLC0415 - seldom needed

        try:
            text = self._console.read_bytes()[self._console_bytes :]
        except OSError:
            return ()
        frames = call_trace.find(text.decode(errors="replace"))
        project, image = self._project, self._prepared.image
        if known := debug_info.at_hand(project.root, image, project.cache):
            frames = call_trace.located(frames, known)
        return tuple(call_trace.formatted(frames))

    def _keep_executables(self) -> None:
        """Copy the executables beside their core files: a later build replaces the originals."""
        if not self._core_files.found:
            return
        folder = self._core_files.found[0].parent
        for test, command in self._commands:
            if self._recorders[command.id].log.exists():
                with contextlib.suppress(OSError):  # such as a full disk
                    copy = folder / test.place
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(test.path, copy)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

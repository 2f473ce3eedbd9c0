"""`invoke debug`: a kernel that waits for gdb, gdb, and the tests, side by side.

The machine is held where its template was made, or before its first instruction if it boots. gdb,
which has the terminal, sets the breakpoints, lets the machine go, and stops it where the tests
reach one of them. gdb decides how long the machine lives: it stays when the tests end or the kernel
panics, and ends when gdb does. So this is not a session of `bpfmatrix.session.pipeline`, which ends
the machine with its job.
"""

import asyncio
import contextlib
import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.debug import held, names, vscode
from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.debug.options import DebugOptions
from bpfmatrix.debug.stub_socket import TCP_WARNING, StubSocket, listening
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import event_loop, locks
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels import symbols
from bpfmatrix.kernels.symbols import Symbols
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult
from bpfmatrix.session.guest_session import EnteredGuest, failure_of
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWork, SuiteWorkload, test_commands
from bpfmatrix.vm.limits import Limit

__all__ = ["debug"]

# The guest's clock stands still while gdb holds the guest, but a person also steps.
_LIMIT_SECONDS = 24 * 3600.0
# How long gdb may take to notice that its machine has ended.
_PATIENCE_SECONDS = 5.0


def debug(
    project: Project,
    id: str,
    tests: RunOptions,
    options: DebugOptions,
    observer: Observer,
    progress_bar: Callable[[], contextlib.AbstractContextManager[Progress]],
) -> int:
    """Run the tests on one kernel under gdb, and return gdb's exit status.

    `progress_bar` shows the progress of fetching symbols. BpfmatrixError for everything that can be
    found out before the machine is started and, with `batch`, if no breakpoint was reached.
    """
    kernel = _accelerated(project.config.kernel(id), options.accel)
    limit = Limit(_LIMIT_SECONDS, command("debug"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_unwound_by_signals())
        # Early, since the port may be in use.
        stub = stack.enter_context(listening(options.port))
        with observer:
            workload = SuiteWorkload(project, tests)
            payload = workload.payload(kernel.arch, observer)
            prepared = held.at_fixed_addresses(prepare(project, kernel, payload, tests, observer))
            commands = test_commands(prepared, tests, limit)
        found = _symbols(project, prepared, options, observer, progress_bar)
        folder = stack.enter_context(_own_folder(project, id))
        gdb = Gdb.find(kernel.arch, found, project.cache, folder)
        breakpoints = gdb.resolve(options.breakpoints)
        why_cold = held.why_cold(tests.cold, gdb.initial(options.breakpoints), prepared.spec)
        observer.step(id, "symbols", project.relative(found.vmlinux), found.origin)
        if not found.has_types:
            observer.note("functions by name alone: no source, lines or variables (see --vmlinux)")
        elif found.source is None:
            observer.note("no source tree was found: name one with --source")
        if options.vscode:
            _write_configuration(project, id, gdb, tests, options, breakpoints)
            return 0
        shown = _WithoutInterrupted(observer)
        work = SuiteWork(project, prepared, commands, tests, shown, folder, limit)
        waiting = held.HeldMachine(project, prepared, why_cold, observer)
        session = _DebugSession(project, waiting, options, gdb, breakpoints, observer, work)
        return event_loop.run(session.run(stub))


@contextlib.contextmanager
def _unwound_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does, by an exception.

    Otherwise they end it at once, and what a session has in other folders would stay there.
    """

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
                before[number] = signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _WithoutInterrupted(Observer):
    """Passes on the results of tests, except of interrupted ones: whoever quit gdb knows those."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def executables(self, kernel: str, names: Sequence[str]) -> None:
        """See Observer."""
        self._observer.executables(kernel, names)

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        if result.outcome is not Outcome.INTERRUPTED:
            self._observer.result(kernel, result)


def _write_configuration(
    project: Project,
    id: str,
    gdb: Gdb,
    tests: RunOptions,
    options: DebugOptions,
    breakpoints: Sequence[str],
) -> None:
    port = options.port or vscode.PORT
    path = vscode.write(project.root, vscode.configuration(id, gdb, port, breakpoints))
    words = ["invoke", "debug", "--kernel", id, "--attach-later", "--port", str(port)]
    words += ["--run", tests.run] if tests.run else []
    words += [word for path in tests.binaries for word in ("--binary", str(path))]
    print(f"{project.relative(path)} has a configuration `bpfmatrix: {id}`; before you start it:")
    print(f"  {shlex.join(words)}")
    print(f"It uses port {port} of 127.0.0.1, as the editor needs one: {TCP_WARNING}.")


def _accelerated(kernel: KernelConfig, accel: str) -> KernelConfig:
    qemu = kernel.qemu.model_copy(update={"accel": accel})
    return kernel.model_copy(update={"qemu": qemu})


@contextlib.contextmanager
def _own_folder(project: Project, id: str) -> Iterator[Path]:
    """Give the folder of this session, which does not exist yet: another one if it is in use."""
    parent = project.state / "debug"
    parent.mkdir(exist_ok=True)
    with locks.locked_if_free(parent / f".{id}.lock") as ours:
        folder = parent / (id if ours else f"{id}-{os.getpid()}")
        shutil.rmtree(folder, ignore_errors=True)
        yield folder


def _symbols(
    project: Project,
    prepared: Prepared,
    options: DebugOptions,
    observer: Observer,
    progress_bar: Callable[[], contextlib.AbstractContextManager[Progress]],
) -> Symbols:
    """Return the kernel's symbols: only names if that is asked for, or if there is nothing else."""
    kernel, image, cache = prepared.kernel, prepared.image, project.cache
    known = options.vmlinux or symbols.at_hand(project.root, image, cache)
    if options.names or not (known or symbols.fetchable(kernel, image)):
        return names.provide(project, prepared)
    try:
        with progress_bar() as progress:
            return symbols.get(
                project.root,
                kernel,
                image,
                cache,
                options.vmlinux,
                options.source,
                progress,
                announce=observer.note,
            )
    except KernelUnavailableError as error:
        advice = f"{error.advice} With --names, gdb makes do with the functions' names."
        raise type(error)(error.what, advice.strip()) from error


class _DebugSession:
    """The machine, gdb and the tests, once everything that they need is there."""

    def __init__(
        self,
        project: Project,
        machine: held.HeldMachine,
        options: DebugOptions,
        gdb: Gdb,
        breakpoints: Sequence[str],
        observer: Observer,
        tests: SuiteWork,
    ) -> None:
        self._project = project
        self._machine = machine
        self._options = options
        self._gdb = gdb
        self._breakpoints = breakpoints
        self._observer = observer
        self._tests = tests
        self._ended = ""
        """How the tests ended; empty while they run."""

    async def run(self, stub: StubSocket) -> int:
        """Start the machine and gdb, and return gdb's exit status. Both end in any case."""
        paged = self._options.batch is None
        hardware = self._machine.prepared.accelerator.name != "tcg"
        commands = self._gdb.write(stub.target, self._breakpoints, paged, hardware)
        console = self._gdb.folder / "console.log"
        if obstacle := self._machine.prepared.accelerator.unprotected:
            self._observer.note(f"QEMU runs without its sandbox: {obstacle}")
        if stub.port is not None:
            self._observer.note(f"gdb's port is {stub.target}: {TCP_WARNING}")
        async with self._machine.waiting(stub, console) as guest:
            tests = asyncio.create_task(self._run_tests(guest))
            try:
                if self._options.attach_later:
                    self._print_how_to_attach(commands, stub)
                    await tests
                    self._observer.note(self._ended)
                    status = 0
                else:
                    status = await self._run_gdb(commands, tests)
            finally:
                tests.cancel()
                await asyncio.gather(tests, return_exceptions=True)
        if self._options.batch is not None and not self._gdb.stopped:
            ended = f": {self._ended}" if self._ended else ""
            raise BpfmatrixError(
                f"no breakpoint was reached ({', '.join(self._breakpoints)}){ended}",
                f"What the kernel said: {self._project.relative(self._gdb.folder)}/console.log",
            )
        return status

    def _print_how_to_attach(self, commands: Path, stub: StubSocket) -> None:
        symbols = self._gdb.symbols
        if self._options.json_port:
            about = {
                "socket": str(stub.path) if stub.path else None,
                "port": stub.port,
                "pid": os.getpid(),
                "vmlinux": str(symbols.vmlinux),
                "source": str(symbols.source) if symbols.source else None,
                "commands": str(commands),
                "breakpoints": list(self._breakpoints),
            }
            print(json.dumps(about), flush=True)
            return
        print(f"waiting for gdb on {stub.target}; in another terminal:", flush=True)
        print(f"  {self._gdb.shown(commands)}", flush=True)
        print("Ctrl-C ends the machine", flush=True)

    async def _run_tests(self, guest: EnteredGuest) -> None:
        """Run the tests, and record how they ended."""

        async def attend() -> None:
            await guest.machine.wait_until_ready()
            await self._tests.attend(guest)

        try:
            failure = await failure_of(attend(), None)
            self._ended = "the tests ended"
            if failure:
                outcome, reason = failure
                self._ended = reason if outcome is Outcome.ERROR else f"{outcome}: {reason}"
        finally:
            reason = self._ended or "the machine was ended"
            await self._tests.fail(Outcome.INTERRUPTED, reason)
            self._tests.close()

    async def _run_gdb(self, commands: Path, tests: "asyncio.Task[None]") -> int:
        """Run gdb, and return its exit status.

        With `batch` there is nobody to quit gdb, so it is ended after the tests.
        """
        batch = self._options.batch
        async with self._gdb.running(commands, self._options.gdb_args, batch) as gdb:
            ended = asyncio.create_task(gdb.wait())
            started = time.monotonic()
            await asyncio.wait((ended, tests), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return ended.result()
            seconds = time.monotonic() - started
            hint = "" if batch else "; Ctrl-C stops the guest, `quit` ends it"
            self._observer.note(f"{self._ended} after {seconds:.0f} s{hint}")
            if batch is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(ended), _PATIENCE_SECONDS)
                if not ended.done():
                    gdb.send_signal(signal.SIGTERM)
            return await ended

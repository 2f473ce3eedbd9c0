"""`invoke debug`: a kernel that waits for gdb, gdb, and the tests, side by side.

The machine stands before its first instruction. gdb, which is at the terminal, sets the
breakpoints, lets it go, and stops where the test's load comes to one of them. When gdb ends, the
machine does.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.debug import names, vscode
from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UsageError
from bpfmatrix.host import locks
from bpfmatrix.host.process import tied
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
from bpfmatrix.vm import launch, machine

__all__ = ["DebugOptions", "debug"]

# The guest's clock stands while gdb holds it, but a person also steps.
_LIMIT_SECONDS = 24 * 3600.0
# What gdb takes to let go of a machine that has ended.
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class DebugOptions:
    """What a user asks of a debug run, beyond the tests."""

    breakpoints: tuple[str, ...] = ()
    """Functions, and FILE:LINE; the verifier's entry if there is none."""
    batch: tuple[str, ...] | None = None
    """Commands that gdb does at the first stop, in place of a person; it then ends."""
    gdb_args: tuple[str, ...] = ()
    attach_later: bool = False
    """Start no gdb; say how to."""
    port: int = 0
    """Of the gdb stub, on the loopback interface; 0 for a free one."""
    vscode: bool = False
    """Start nothing; write a launch configuration for the editor."""
    json_port: bool = False
    """With `attach_later`, say it as a line of JSON."""
    vmlinux: Path | None = None
    source: Path | None = None
    names: bool = False
    """Do with the functions' names, even where a vmlinux could be fetched."""


def debug(
    project: Project,
    id: str,
    tests: RunOptions,
    options: DebugOptions,
    observer: Observer,
    progress_bar: Callable[[], contextlib.AbstractContextManager[Progress]],
) -> int:
    """Run the tests on one kernel under gdb; returns the exit status.

    That is gdb's; with `batch`, it is 1 as well where no breakpoint was reached. BpfmatrixError for
    all that can be told before the machine is started. `progress_bar` shows how far symbols are.
    """
    # Emulation: breakpoints there need no memory that is mapped yet, nor registers of a processor.
    kernel = _under_emulation(project.config.kernel(id))
    tests = dataclasses.replace(tests, cold=True, test_seconds=_LIMIT_SECONDS)
    with contextlib.ExitStack() as held:
        gdb_socket = held.enter_context(_listening(options.port))
        with observer:
            workload = SuiteWorkload(project, tests)
            payload = workload.payload(kernel.arch, observer)
            prepared = prepare(project, kernel, payload, tests, observer)
            commands = test_commands(payload, tests, kernel)
        found = _symbols(project, prepared, options, observer, progress_bar)
        folder = held.enter_context(_own_folder(project, id))
        gdb = Gdb.find(kernel.arch, found, project.cache, folder)
        breakpoints = gdb.resolve(options.breakpoints)
        observer.step(id, "symbols", project.relative(found.vmlinux), found.origin)
        if not found.has_types:
            observer.note("functions by name alone: no source, lines or variables (see --vmlinux)")
        elif found.source is None:
            observer.note("no source tree is at hand: name one with --source")
        if options.vscode:
            _write_configuration(project, id, gdb, tests, options, breakpoints)
            return 0
        shown = _WithoutInterrupted(observer)
        work = SuiteWork(project, prepared, commands, tests, shown, folder, "invoke debug")
        session = _Session(project, prepared, options, gdb, breakpoints, observer, work)
        return asyncio.run(session.go(gdb_socket))


class _WithoutInterrupted(Observer):
    """Passes on results, but for those of tests that were interrupted: whoever left gdb knows."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

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


def _under_emulation(kernel: KernelConfig) -> KernelConfig:
    qemu = kernel.qemu.model_copy(update={"accel": "tcg"})
    return kernel.model_copy(update={"qemu": qemu})


@contextlib.contextmanager
def _own_folder(project: Project, id: str) -> Iterator[Path]:
    """Give the empty folder of this session: the kernel's, or another if that one is in use."""
    parent = project.state / "debug"
    parent.mkdir(exist_ok=True)
    with locks.locked_if_free(parent / f".{id}.lock") as ours:
        folder = parent / (id if ours else f"{id}-{os.getpid()}")
        shutil.rmtree(folder, ignore_errors=True)
        yield folder


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """Give a socket that listens on a port of the loopback interface."""
    with socket.socket() as listening:
        # A port that was just in use by another session may be used again.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(("127.0.0.1", port))
            listening.listen(1)
        except OSError as error:
            raise UsageError(
                f"--port {port}: {error.strerror}",
                "Name another one, or none: a free one is taken.",
            ) from error
        except OverflowError:
            raise UsageError(f"--port {port}: expected 1 to 65535") from None
        yield listening


def _symbols(
    project: Project,
    prepared: Prepared,
    options: DebugOptions,
    observer: Observer,
    progress_bar: Callable[[], contextlib.AbstractContextManager[Progress]],
) -> Symbols:
    """Get the symbols; the functions' names where that is all there is, or all that is options."""
    kernel, image, cache = prepared.kernel, prepared.image, project.cache
    known = options.vmlinux or symbols.at_hand(project.root, image, cache)
    if options.names or not (known or symbols.fetchable(kernel, image)):
        target = symbols.names_file(cache, image)
        if not target.exists():
            with cache.staging() as staging:
                names.write(image.boot, names.read(project, prepared), staging / "vmlinux")
                target.parent.mkdir(parents=True, exist_ok=True)
                (staging / "vmlinux").replace(target)
        return Symbols(target, None, origin="the kernel's own names", has_types=False)
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


class _Session:
    """One debug run, once all that it needs is there."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        options: DebugOptions,
        gdb: Gdb,
        breakpoints: Sequence[str],
        observer: Observer,
        tests: SuiteWork,
    ) -> None:
        self._project = project
        self._prepared = prepared
        self._options = options
        self._gdb = gdb
        self._breakpoints = breakpoints
        self._observer = observer
        self._tests = tests
        self._ended = ""

    async def go(self, listening: socket.socket) -> int:
        """Start machine and gdb; whichever way this is left, both end."""
        port = listening.getsockname()[1]
        paged = self._options.batch is None
        commands = self._gdb.write(port, self._breakpoints, paged)
        console = self._gdb.folder / "console.log"
        async with launch.debugged(self._prepared.spec, console, listening) as guest:
            tests = asyncio.create_task(self._run_tests(guest, console))
            try:
                if self._options.attach_later:
                    self._tell(commands, port)
                    await tests
                    self._observer.note(self._ended)
                    status = 0
                else:
                    async with self._running_gdb(commands) as gdb:
                        status = await self._until_gdb_ends(gdb, tests)
            finally:
                tests.cancel()
                await asyncio.gather(tests, return_exceptions=True)
        return self._judged(status)

    def _judged(self, status: int) -> int:
        if self._options.batch is None:
            return status
        if not self._gdb.stopped:
            ended = f": {self._ended}" if self._ended else ""
            raise BpfmatrixError(
                f"no breakpoint was reached ({', '.join(self._breakpoints)}){ended}",
                f"What the kernel said: {self._project.relative(self._gdb.folder)}/console.log",
            )
        return status

    def _tell(self, commands: Path, port: int) -> None:
        symbols = self._gdb.symbols
        if self._options.json_port:
            about = {
                "port": port,
                "pid": os.getpid(),
                "vmlinux": str(symbols.vmlinux),
                "source": str(symbols.source) if symbols.source else None,
                "commands": str(commands),
                "breakpoints": list(self._breakpoints),
            }
            print(json.dumps(about), flush=True)
            return
        print(f"waiting for gdb on port {port}; in another terminal:", flush=True)
        print(f"  {self._gdb.shown(commands)}", flush=True)
        print("Ctrl-C ends the machine", flush=True)

    async def _run_tests(self, guest: machine.Machine, console: Path) -> None:
        """Run the tests, and take note of how they ended."""

        async def attend() -> None:
            await guest.wait_until_ready()
            await self._tests.attend(EnteredGuest(guest, "cold", console))

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

    @contextlib.asynccontextmanager
    async def _running_gdb(self, commands: Path) -> AsyncIterator[asyncio.subprocess.Process]:
        batch = self._options.batch
        words = self._gdb.command(commands, self._options.gdb_args, batch)
        # In our process group, so that it may read from the terminal.
        process = await asyncio.create_subprocess_exec(
            *tied(words),
            stdin=asyncio.subprocess.DEVNULL if batch is not None else None,
        )
        loop = asyncio.get_running_loop()
        if batch is None:
            # Ctrl-C is for gdb, which stops the guest by it.
            loop.add_signal_handler(signal.SIGINT, lambda: None)
        try:
            yield process
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            if batch is None:
                loop.remove_signal_handler(signal.SIGINT)

    async def _until_gdb_ends(
        self, gdb: asyncio.subprocess.Process, tests: "asyncio.Task[None]"
    ) -> int:
        """Wait for gdb. With nobody at it, it does not wait for a guest that has no more to do."""
        ended = asyncio.create_task(gdb.wait())
        started = time.monotonic()
        await asyncio.wait((ended, tests), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            seconds = time.monotonic() - started
            hint = "" if self._options.batch else "; Ctrl-C stops the guest, `quit` ends it"
            self._observer.note(f"{self._ended} after {seconds:.0f} s{hint}")
            if self._options.batch is not None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(ended), _PATIENCE_SECONDS)
                if not ended.done():
                    gdb.send_signal(signal.SIGTERM)
        return await ended

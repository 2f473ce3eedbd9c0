"""`invoke debug`: a kernel that waits for gdb, gdb, and the work in the guest, side by side.

The work is the tests, or the loading of eBPF objects: see `workload`. The machine waits for gdb:
see `held`. gdb, which has the terminal, sets the breakpoints, lets the machine go, and stops it
where the work reaches one of them. gdb decides how long the machine lives: it stays when the work
ends or the kernel panics, and ends when gdb does. So this is not a session of
`bpfmatrix.session.pipeline`, which ends the machine with its job.
"""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.debug import held, names, places, vscode
from bpfmatrix.debug.ending import failure_of_gdb
from bpfmatrix.debug.gdb import Gdb
from bpfmatrix.debug.options import DebugOptions
from bpfmatrix.debug.own_folder import own_folder
from bpfmatrix.debug.stub_socket import TCP_WARNING, StubSocket, listening
from bpfmatrix.debug.workload import (
    DebuggedWorkload,
    ObjectsUnderGdb,
    TestsUnderGdb,
    without_limit,
)
from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host import event_loop
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels import symbols
from bpfmatrix.kernels.symbols import Symbols
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.guest_session import EnteredGuest, failure_of
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.session.workload import Work
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.machine import Machine

__all__ = ["debug"]

# The guest's clock stands still while gdb holds the guest, but a person also steps.
_LIMIT_SECONDS = 24 * 3600.0
# How long a batch lets the guest run at a time when its work has ended.
_IDLE_SECONDS = 1.0


def debug(
    project: Project,
    id: str,
    asked: RunOptions | VerifyOptions,
    options: DebugOptions,
    observer: Observer,
    progress_bar: Callable[[], contextlib.AbstractContextManager[Progress]],
) -> int:
    """Run tests, or load eBPF objects, on one kernel under gdb, and return gdb's exit status.

    `asked` says which tests or which objects. `progress_bar` shows the progress of fetching
    symbols. BpfmatrixError for everything that can be found out before the machine is started and,
    with `batch`, if no breakpoint was reached.
    """
    places.check_forms(options.breakpoints)
    limit = Limit(_LIMIT_SECONDS, command("debug"))
    kernel = without_limit(_accelerated(project.config.kernel(id), options.accel), limit)
    workload = (
        TestsUnderGdb(project, asked, limit)
        if isinstance(asked, RunOptions)
        else ObjectsUnderGdb(project, asked, limit)
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(_unwound_by_signals())
        # Early, since the port may be in use.
        stub = stack.enter_context(listening(options.port))
        folder = stack.enter_context(own_folder(project, id))
        with observer:
            payload = workload.payload(kernel.arch, observer)
            prepared = held.at_fixed_addresses(
                prepare(project, kernel, payload, workload.options, observer)
            )
            work = workload.work(prepared, observer, folder)
        found = _symbols(project, prepared, options, observer, progress_bar)
        gdb = Gdb.find(kernel.arch, found, project.cache, folder, workload.programs)
        objects = () if isinstance(asked, RunOptions) else tuple(map(Path, asked.objects))
        breakpoints = gdb.resolve(
            options.breakpoints, lambda file: places.has_source(file, project.root, objects)
        )
        workload.check(breakpoints)
        why_cold = held.why_cold(asked.cold, gdb.initial(options.breakpoints), prepared.spec)
        observer.step(id, "symbols", project.relative(found.vmlinux), found.origin)
        if not found.has_types:
            observer.note("functions by name alone: no source, lines or variables (see --vmlinux)")
        elif found.source is None:
            observer.note("no source tree was found: name one with --source")
        if options.vscode:
            _write_configuration(project, id, gdb, workload, options, breakpoints)
            return 0
        machine = held.HeldMachine(project, prepared, why_cold, observer)
        session = _DebugSession(
            project, machine, options, gdb, breakpoints, observer, workload, work
        )
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


def _write_configuration(
    project: Project,
    id: str,
    gdb: Gdb,
    workload: DebuggedWorkload,
    options: DebugOptions,
    breakpoints: Sequence[str],
) -> None:
    port = options.port or vscode.PORT
    path = vscode.write(project.root, vscode.configuration(id, gdb, port, breakpoints))
    words = ["invoke", "debug", "--kernel", id, "--attach-later", "--port", str(port)]
    words += workload.words
    print(f"{project.relative(path)} has a configuration `bpfmatrix: {id}`; before you start it:")
    print(f"  {shlex.join(words)}")
    print(f"It uses port {port} of 127.0.0.1, as the editor needs one: {TCP_WARNING}.")


def _accelerated(kernel: KernelConfig, accel: str) -> KernelConfig:
    qemu = kernel.qemu.model_copy(update={"accel": accel})
    return kernel.model_copy(update={"qemu": qemu})


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
    """The machine, gdb and the work, once everything that they need is there."""

    def __init__(
        self,
        project: Project,
        machine: held.HeldMachine,
        options: DebugOptions,
        gdb: Gdb,
        breakpoints: Sequence[str],
        observer: Observer,
        workload: DebuggedWorkload,
        work: Work[Any],
    ) -> None:
        self._project = project
        self._machine = machine
        self._options = options
        self._gdb = gdb
        self._breakpoints = breakpoints
        self._observer = observer
        self._workload = workload
        self._work = work
        self._ended = ""
        """How the work ended; empty while it goes on."""

    async def run(self, stub: StubSocket) -> int:
        """Start the machine and gdb, and return gdb's exit status. Both end in any case."""
        hardware = self._machine.prepared.accelerator.name != "tcg"
        commands = self._gdb.write(stub.target, self._breakpoints, self._options.batch, hardware)
        console = self._gdb.folder / "console.log"
        if obstacle := self._machine.prepared.accelerator.unprotected:
            self._observer.note(f"QEMU runs without its sandbox: {obstacle}")
        if stub.port is not None:
            self._observer.note(f"gdb's port is {stub.target}: {TCP_WARNING}")
        async with self._machine.waiting(stub, console) as guest:
            work = asyncio.create_task(self._do_work(guest))
            try:
                if self._options.attach_later:
                    self._print_how_to_attach(commands, stub)
                    await work
                    self._observer.note(self._ended)
                    status = 0
                else:
                    status = await self._run_gdb(commands, work, guest.machine)
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        if status in (-signal.SIGINT, 128 + signal.SIGINT):
            raise KeyboardInterrupt
        failure = failure_of_gdb(
            status,
            self._breakpoints,
            self._options.batch,
            stopped=self._gdb.stopped,
            report=self._gdb.batch_report,
            ended=self._ended,
            console=self._project.relative(console),
        )
        if failure and not self._options.attach_later:
            raise failure
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

    async def _do_work(self, guest: EnteredGuest) -> None:
        """Run the tests or load the objects, and record how that ended."""

        async def attend() -> None:
            await guest.machine.wait_until_ready()
            await self._work.attend(guest)

        try:
            failure = await failure_of(attend(), None)
            self._ended = f"{self._workload.noun} ended"
            if failure:
                outcome, reason = failure
                self._ended = reason if outcome is Outcome.ERROR else f"{outcome}: {reason}"
        finally:
            reason = self._ended or "the machine was ended"
            await self._work.fail(Outcome.INTERRUPTED, reason)
            self._work.close()

    async def _run_gdb(self, commands: Path, work: "asyncio.Task[None]", guest: Machine) -> int:
        """Run gdb, and return its exit status, or the negative number of the signal that ended it.

        When the work ends, gdb gets its prompt again, or goes on with the commands of `batch`.
        """
        is_batch = self._options.batch is not None
        async with self._gdb.running(commands, self._options.gdb_args, batch=is_batch) as gdb:
            ended = asyncio.create_task(gdb.wait())
            started = time.monotonic()
            await asyncio.wait((ended, work), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                seconds = time.monotonic() - started
                await self._hand_over(guest, f"{self._ended} after {seconds:.0f} s")
            pausing = asyncio.create_task(self._pause(guest)) if is_batch else None
            try:
                return await ended
            finally:
                if pausing:
                    pausing.cancel()

    @staticmethod
    async def _pause(guest: Machine) -> None:
        """Stop the guest each time that gdb lets it run: there is no work that could stop it.

        Nobody is there to press Ctrl-C. gdb says of each command after the first one that nothing
        stopped the guest (in_gdb/session.py).
        """
        while True:
            await guest.pause_again(_IDLE_SECONDS)

    async def _hand_over(self, guest: Machine, how: str) -> None:
        """Let gdb know that the work has ended: it may wait for a breakpoint for ever."""
        is_batch = self._options.batch is not None
        if is_batch and not self._gdb.stopped:
            await guest.end()
        elif guest.is_running:
            missed = "" if self._gdb.stopped else ", and no breakpoint was reached"
            hint = "" if is_batch else ", `quit` ends it"
            self._observer.note(f"{how}{missed}: the guest is stopped{hint}")
            await guest.pause()
        else:
            self._observer.note(f"{how}{'' if is_batch else ': `quit` ends gdb'}")

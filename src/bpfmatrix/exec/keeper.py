"""The keeper: a process with guests at hand, which runs the commands of one test runner in them.

`bpfmatrix exec` starts it, and it ends by itself: with the runner, or when no command came for some
seconds. Nothing in it survives a command but the preparation of kernels and guests that no command
has used.
"""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from bpfmatrix.config.project import Project
from bpfmatrix.config.settings import Settings, merged
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.exec.environment import command_environment
from bpfmatrix.exec.guests import Guests
from bpfmatrix.exec.messages import ACCEPTED, EXIT, NOTE, Call, Reply, receive_call, user_of
from bpfmatrix.host.faults import explained
from bpfmatrix.host.text import inert
from bpfmatrix.payload.model import Payload
from bpfmatrix.session.guest_session import EnteredGuest, failure_of
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.shell.attached import AttachedCommand, session_error
from bpfmatrix.shell.streams import are_one
from bpfmatrix.vm.protocol import Session

__all__ = ["Keeper", "Wanted"]

T = TypeVar("T")

_IDLE_SECONDS = 10.0
# A runner's output has nothing of bpfmatrix, unless somebody would ask what takes so long.
_QUIET_SECONDS = 2.0


@dataclass(frozen=True)
class Wanted:
    """What a command line asks for."""

    project: Project
    kernel: str
    options: SessionOptions
    variables: tuple[str, ...]
    """The values of --env."""
    command: tuple[str, ...]


class Keeper:
    """Takes calls until the runner ends.

    `read` turns a call's command line into what it asks for; the working directory is the caller's
    while it does. BpfmatrixError if the command line is wrong.
    """

    def __init__(
        self, listener: socket.socket, read: Callable[[Call], Wanted], folder: Path, *, alone: bool
    ) -> None:
        """`folder` is for consoles. If `alone`, there is only one call."""
        self._listener = listener
        self._read = read
        self._folder = folder
        self._alone = alone
        self._ready: dict[object, asyncio.Task[tuple[Prepared, Guests]]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._idle: asyncio.TimerHandle | None = None

    async def serve(self, runner: int) -> None:
        """Take calls until the process of this pidfd ends, or until there are none."""
        loop = asyncio.get_running_loop()
        loop.add_reader(runner, self._ended.set)
        loop.add_signal_handler(signal.SIGTERM, self._ended.set)
        self._listener.setblocking(False)
        accepting = asyncio.create_task(self._accept())
        self._wait_for_calls()
        await self._ended.wait()
        accepting.cancel()
        self._listener.close()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        for task in self._ready.values():
            if not task.done():
                # Such as apt. They are in this process's group, and guests are in groups of theirs.
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.killpg(os.getpid(), signal.SIGTERM)
            elif not task.cancelled() and task.exception() is None:
                await task.result()[1].close()

    def _wait_for_calls(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._calls:
            loop = asyncio.get_running_loop()
            self._idle = loop.call_later(_IDLE_SECONDS, self._ended.set)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            if user_of(connection) != os.geteuid():
                connection.close()
                continue
            task = asyncio.create_task(self._attend(connection))
            self._calls.add(task)
            task.add_done_callback(self._forget)
            self._wait_for_calls()

    def _forget(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        self._wait_for_calls()

    async def _attend(self, connection: socket.socket) -> None:
        """Take a call, run its command, and tell the client how it ended."""
        connection.setblocking(True)
        try:
            call, streams = await _in_thread(lambda: receive_call(connection))
        except (EOFError, OSError):  # the client is gone
            connection.close()
            return
        reader, writer = await asyncio.open_connection(sock=connection)
        caller = _Caller(reader, writer)
        with contextlib.closing(writer):
            caller.say(ACCEPTED)
            # The streams are closed before the client ends: as at the end of a command on the host,
            # nobody can write to them any more when it has ended.
            with _closing(streams):
                status = await self._run_until_gone(call, streams, caller)
            caller.say(EXIT, str(status))
            with contextlib.suppress(OSError):
                await writer.drain()

    async def _run_until_gone(self, call: Call, streams: list[int], caller: "_Caller") -> int:
        """Run the command, and end it if the client goes away, or gets a signal before it runs."""
        running = asyncio.create_task(self._run(call, streams, caller))
        listening = asyncio.create_task(caller.listen())
        try:
            await asyncio.wait({running, listening}, return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else 128 + listening.result()
        finally:
            for task in (running, listening):
                task.cancel()
            await asyncio.gather(running, listening, return_exceptions=True)

    async def _run(self, call: Call, streams: list[int], caller: "_Caller") -> int:
        """Run the command of a call, and return its exit status, or that of an error."""
        try:
            os.chdir(call.folder)
            try:
                wanted = self._read(call)
            finally:
                os.chdir("/")
            with _Progress(caller).shown() as progress:
                prepared, guests = await self._prepared(wanted, progress)
                async with guests.one(progress) as entered:
                    progress.stop()
                    return await _run_in(entered, prepared, wanted, call, streams, caller)
        except Exception as error:
            known = explained(error)
            if known is None:
                caller.say(NOTE, traceback.format_exc())
                return 1
            caller.say(NOTE, _text_of(known))
            return known.exit_status

    async def _prepared(self, wanted: Wanted, observer: Observer) -> tuple[Prepared, Guests]:
        """Return what all commands with the same kernel and the same options share."""
        files = replace(wanted.options.files, folder=Path("/"))
        # The settings of a command are not the guest's.
        options = replace(wanted.options, files=files, settings=Settings())
        # A project that was read again, because its kernels.yaml was changed, is another object.
        key = (id(wanted.project), wanted.kernel, files, options.cold, options.network)
        if key not in self._ready:
            self._ready[key] = asyncio.create_task(self._prepare(wanted, options, observer))
        try:
            return await asyncio.shield(self._ready[key])
        except Exception:
            self._ready.pop(key, None)  # so that the next command tries it again
            raise

    async def _prepare(
        self, wanted: Wanted, options: SessionOptions, observer: Observer
    ) -> tuple[Prepared, Guests]:
        project = wanted.project
        kernel = project.config.kernel(wanted.kernel)
        # It may take long, and other calls must go on.
        prepared = await _in_thread(
            lambda: prepare(project, kernel, Payload(()), options, observer)
        )
        return prepared, Guests(project, prepared, self._folder, spares=not self._alone)


async def _run_in(
    entered: EnteredGuest,
    prepared: Prepared,
    wanted: Wanted,
    call: Call,
    streams: list[int],
    caller: "_Caller",
) -> int:
    """Run a command in a guest, and return its exit status."""
    files, declared = wanted.options.files, wanted.project.config.payload
    image_variables = prepared.root.env if prepared.root else {}
    settings = merged(declared, prepared.kernel.profile, wanted.options.settings)
    chosen = {text.partition("=")[0] for text in wanted.variables}
    env = {name: value for name, value in settings.env.items() if name not in chosen}
    settings = settings.model_copy(update={"env": env})
    # Shared folders have no symbolic links in their paths; the host's root has those of the host.
    folder = Path(call.folder) if files.is_host else Path(call.folder).resolve()
    here = Settings(folder=folder)
    session = Session(
        wanted.command,
        None,  # the guest is set up
        command_environment(call.environment, files, wanted.variables, image_variables),
        errors_apart=not are_one(streams[1], streams[2]),
        start=prepared.start_with(merged(settings, here)),
    )
    given, output, errors = streams
    command = AttachedCommand(entered.machine, session, (given, output, errors))
    caller.attach(command)
    status = 0

    async def run() -> None:
        nonlocal status
        status = await command.run()

    if failure := await failure_of(run(), None):
        raise session_error(wanted.kernel, *failure, entered.console)
    return status


class _Caller:
    """The client of one call: what it is told, and the signals that it passes on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._command: AttachedCommand | None = None

    def say(self, kind: bytes, text: str = "") -> None:
        """Send a reply."""
        self._writer.write(Reply(kind, text).encode())

    def attach(self, command: AttachedCommand) -> None:
        """Pass on signals to this command from now on."""
        self._command = command

    async def listen(self) -> int:
        """Pass on signals. Return the number of one that ends the call, as no command runs yet.

        If the client is gone, this is SIGHUP.
        """
        with contextlib.suppress(OSError):
            while data := await self._reader.read(1):
                number = data[0]
                if self._command is None:
                    return number
                self._command.send_signal(signal.Signals(number).name.removeprefix("SIG"))
        return signal.SIGHUP


class _Progress(Observer):
    """Tells the caller what takes so long, if it takes long."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller
        self._loop = asyncio.get_running_loop()
        self._doing = ""
        self._said = ""
        self._shown = False
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator["_Progress"]:
        """Show progress from some seconds on, until the context is left or `stop` is called."""
        self._timer = self._loop.call_later(_QUIET_SECONDS, self._show)
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """Show nothing more."""
        self._shown = False
        if self._timer is not None:
            self._timer.cancel()

    def _show(self) -> None:
        self._shown = True
        self._say()

    def _say(self) -> None:
        if self._shown and self._doing and self._doing != self._said:
            self._said = self._doing
            self._caller.say(NOTE, inert(self._doing))

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer. It is called by other threads, too."""
        self._doing = f"bpfmatrix: {kernel}: {text}" if kernel else f"bpfmatrix: {text}"
        self._loop.call_soon_threadsafe(self._say)

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Observer."""
        if name == "template":
            self.doing(kernel, name, f"{name} {detail} {result}")


async def _in_thread(work: Callable[[], T]) -> T:
    """Do work that waits for something in a thread, which does not keep this process from ending.

    asyncio.to_thread() would.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(action: Callable[[Any], None], value: object) -> None:
        if not done.done():  # nobody waits any more
            action(value)

    def run() -> None:
        told: tuple[Callable[[Any], None], object]
        try:
            told = (done.set_result, work())
        except BaseException as error:
            told = (done.set_exception, error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(finish, *told)

    threading.Thread(target=run, daemon=True).start()
    return await done


@contextlib.contextmanager
def _closing(descriptors: list[int]) -> Iterator[None]:
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _text_of(error: BpfmatrixError) -> str:
    return inert(f"error: {error.what}" + (f"\n       {error.advice}" if error.advice else ""))

"""One throw-away machine: QEMU's process, its channels, and the events of its one job.

`bpfmatrix.vm.launch` starts it. `Machine.run` gives it a job, and yields the events. If the machine
ends before the job does, `MachineEndedError` says why: a panic, a time limit, or a lost machine.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from qemu.qmp import QMPClient, QMPError

from bpfmatrix.errors import MachineError
from bpfmatrix.vm import dump, parts
from bpfmatrix.vm.channels import Channels
from bpfmatrix.vm.console import Console
from bpfmatrix.vm.folders import FolderDevice
from bpfmatrix.vm.protocol import (
    CoreSplitter,
    Done,
    Event,
    Exited,
    Job,
    OutputSplitter,
    ProtocolError,
    Ready,
    Referee,
    Session,
    Started,
    long_text,
    parse,
    resume_line,
)

__all__ = ["Machine", "MachineEndedError", "panic_message"]

# It logs each message of QMP, and the root logger of nox would print them.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

# How much longer than the limit of a test the host waits for the guest's report: the guest first
# sends SIGQUIT, later SIGKILL, and may be slow.
_GRACE_SECONDS = 15.0
# If core files are kept, the guest also waits for them (guest/c/capture-output.c).
_CORE_SECONDS = 20.0
_CHUNK_BYTES = 1 << 16
# How long to wait for the last bytes on the channels of a QEMU that has ended.
_LAST_WORDS_SECONDS = 2.0
_STATE_FD = "state"

# The reasons of QEMU's SHUTDOWN event (ShutdownCause in qapi/run-state.json).
_SHUTDOWNS = {
    "guest-reset": "the guest ended its machine (guest-reset)",
    "guest-shutdown": "the guest ended its machine (guest-shutdown)",
    "guest-panic": "the guest ended its machine (guest-panic)",
    "host-signal": "QEMU was ended by a signal (SIGTERM, SIGINT or SIGHUP)",
    "host-qmp-quit": "QEMU was told to quit by its monitor",
    "host-error": "QEMU ended because of an error of the host",
}

# What QEMU says if gdb sends it the packet `k` (handle_kill in gdbstub).
_ENDED_BY_GDB = "Terminated via GDBstub"

# What the readers of a job's channels pass on; None is the end of the control port.
_JobQueue = asyncio.Queue[Event | ProtocolError | None]


class MachineEndedError(Exception):
    """The machine ended, or passed a limit, before its job was done."""

    def __init__(self, kind: Literal["panic", "lost", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Machine:
    """A running machine. The console of its kernel is appended to the file `console`.

    Without `limited` no time limits apply, because a person may stop the guest in a debugger. With
    `held`, the guest begins with its tests when a debugger has stopped and continued it. If the
    guest panics or gives no sign of life, its memory is dumped to `dump_to`, if that is given.
    `reports_panics` says that each kernel of the board reports panics to QEMU, without a driver.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channels: Channels,
        console: Path,
        *,
        limited: bool = True,
        held: bool = False,
        reports_panics: bool = False,
        dump_to: Path | None = None,
    ) -> None:
        self._process = process
        self._channels = channels
        self.console = Console(channels.console, console)
        """The console of the kernel."""
        self._limited = limited
        self._held = held
        self._stopped = False
        """Whether a debugger has stopped the guest at any time."""
        self._runs = asyncio.Event()
        """Set when a debugger has continued the guest, and cleared when the guest stops."""
        self._continued = asyncio.Event()
        """Set when a debugger has continued the guest, or when QEMU has ended."""
        self._qmp = QMPClient("bpfmatrix")
        self._qmp_connected = asyncio.Event()
        """Set when the connection to the monitor was tried, even if that failed."""
        self._migration: asyncio.Queue[str] = asyncio.Queue()
        """The status in each MIGRATION event of QEMU; `lost` when the monitor is closed."""
        self._to_plug: tuple[FolderDevice, ...] = ()
        """The devices of folders that a restored machine gets when it is ready."""
        self._panicked = False
        """Whether QEMU was told of a panic."""
        self._reports_panics = reports_panics
        """Whether the guest's kernel tells QEMU: on most boards if it has the driver of the pvpanic
        device, which is known when the guest is ready."""
        self._dump_to = dump_to
        self._dumping: asyncio.Task[None] | None = None
        """The dump after a panic."""
        self._dump_ended: asyncio.Queue[str] = asyncio.Queue()
        """The error in each DUMP_COMPLETED event of QEMU; empty if the dump is complete."""
        self.dump_failure = ""
        """Why the guest's memory could not be dumped although that was asked for."""
        self._shutdown = ""
        """The reason in QEMU's SHUTDOWN event."""
        self._stderr = b""
        self._core_files, self._core_files_closed = 0, False
        self._core_files_changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._last_words: list[asyncio.Task[None]] = []
        """The tasks that read what tells why a machine ended."""
        self._server_failure = ""
        self.release = ""
        """The kernel's release, as `uname -r` prints it; known when the guest is ready."""

    @property
    def is_running(self) -> bool:
        """Whether QEMU runs, as far as is known."""
        return self._process.returncode is None

    async def run(self, job: Job) -> AsyncIterator[Event]:
        """Give the guest its job, and yield the events. A test's output comes before its Exited."""
        if self._held:
            # The guest is set up while the debugger still reads its symbols.
            self.send(job.setup_line())
            await self._continued.wait()
            self.send(job.tests_line())
        else:
            self.send(job.line())
        events: _JobQueue = asyncio.Queue(maxsize=64)
        await self._channels.open_output()
        if job.core_boundary:
            self._spawn(self._read_core_files(CoreSplitter(job.core_boundary), events))
        limits = {test.id: test.limit_seconds for test in job.tests}
        begun = {test.id: asyncio.Event() for test in job.tests}
        closed = {test.id: asyncio.Event() for test in job.tests}
        self._spawn(self._read_output(OutputSplitter(job.tests), events, begun, closed))
        self._spawn(self._read_control(Referee(job), events, begun, closed))
        grace = _GRACE_SECONDS + (_CORE_SECONDS if job.core_boundary else 0.0)
        limit, doing = grace, "the job's start"
        while True:
            try:
                event = await asyncio.wait_for(events.get(), limit if self._limited else None)
            except TimeoutError:
                if self._dumping and not self._dumping.done():
                    await asyncio.wait({self._dumping})
                    continue
                await self.dump_if_asked()
                raise MachineEndedError(
                    "lost", f"the guest gave no sign of life for {limit:g} s ({doing})"
                ) from None
            match event:
                case None:
                    raise await self._why_it_ended()
                case ProtocolError():
                    raise event
                case Done():
                    yield event
                    return
                case Started(id=id):
                    limit, doing = limits[id] + grace, f"test {id} was running"
                case Exited():
                    limit, doing = _GRACE_SECONDS, "between two tests"
            yield event

    async def run_session(self, session: Session) -> Exited:
        """Start a session, and wait until its command ends, without a limit.

        The caller reads and writes the command's streams, which are the sockets of `streams`.
        """
        self._channels.control_writer.write(long_text(session.line()))
        async for event in self._control_events():
            match event:
                case Exited(secret=secret) if secret == session.boundary:
                    return event
                case Started():
                    pass
                case _:
                    raise ProtocolError(f"the guest's init said {event} in a session")
        raise await self._why_it_ended()

    @property
    def streams(self) -> dict[str, socket.socket]:
        """The streams of a session: blocking sockets `input`, `output` and `error`."""
        return {name: self._channels.ours[name] for name in ("input", "output", "error")}

    def send(self, *lines: str) -> None:
        """Write lines to the control port."""
        text = "".join(f"{line}\n" for line in lines)
        self._channels.control_writer.write(text.encode(errors="surrogateescape"))

    async def _read_output(
        self,
        splitter: OutputSplitter,
        events: _JobQueue,
        begun: dict[int, asyncio.Event],
        closed: dict[int, asyncio.Event],
    ) -> None:
        while data := await self._channels.output.read(_CHUNK_BYTES):
            for part, last in splitter.feed(data):
                await begun[part.id].wait()  # `started` may come later, on the control port
                if part.data:
                    await events.put(part)
                if last:
                    closed[part.id].set()
        for event in closed.values():
            event.set()

    async def _read_core_files(self, splitter: CoreSplitter, events: _JobQueue) -> None:
        reader = await self._channels.open_error()
        try:
            while data := await reader.read(_CHUNK_BYTES):
                for part in splitter.feed(data):
                    await events.put(part)
                    self._core_files += part.last
                self._core_files_changed.set()
        except ProtocolError as error:
            await events.put(error)
        finally:
            self._core_files_closed = True
            self._core_files_changed.set()

    async def _read_control(
        self,
        referee: Referee,
        events: _JobQueue,
        begun: dict[int, asyncio.Event],
        closed: dict[int, asyncio.Event],
    ) -> None:
        try:
            async for event in self._control_events():
                referee.check(event)
                if isinstance(event, Exited):
                    await closed[event.id].wait()
                    while self._core_files < event.core_files and not self._core_files_closed:
                        self._core_files_changed.clear()
                        await self._core_files_changed.wait()
                await events.put(event)
                if isinstance(event, Started):
                    begun[event.id].set()
        except ProtocolError as error:
            await events.put(error)
        else:
            await events.put(None)

    async def _control_events(self) -> AsyncIterator[Event]:
        """Yield the events of the control port until it is closed."""
        while True:
            try:
                line = await self._channels.control.readline()
            except ValueError:  # longer than the limit of asyncio's streams, 64 KiB
                raise ProtocolError("the guest wrote a line without an end") from None
            except OSError:  # a write has found that QEMU has ended
                return
            if not line.endswith(b"\n"):
                return
            yield parse(line.decode(errors="replace").strip())

    async def save(self, state: Path) -> None:
        """Save a machine that was started with a file for its memory, and is ready.

        The memory stays in that file; everything else is written to `state`. After that the machine
        is stopped, and can only be ended. MachineError if QEMU can't save it.
        """
        try:
            # Its status then comes as MIGRATION events.
            await self._set_capabilities("x-ignore-shared", "events")
            await self._send_file(state, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            await self._qmp.execute("migrate", {"uri": f"fd:{_STATE_FD}"})
            if await self._migrated():
                return
            answer = cast(dict[str, object], await self._qmp.execute("query-migrate"))
        except (QMPError, OSError, EOFError) as error:
            raise MachineError(f"QEMU could not save the machine: {error}") from error
        reason = answer.get("error-desc", "it gave no reason")
        raise MachineError(f"QEMU could not save the machine: {reason}")

    async def load(self, state: Path, host_name: str, devices: Sequence[FolderDevice]) -> None:
        """Load a saved state into a machine that was launched with `Incoming`.

        The guest then goes on. `wait_until_ready` plugs in the devices of
        folders, which no saved machine has. QEMU ends if it can't load the state, and the error
        says why.
        """
        self._to_plug = tuple(devices)
        await self._set_capabilities("x-ignore-shared", "events")
        await self._send_file(state, os.O_RDONLY)
        await self._qmp.execute("migrate-incoming", {"uri": f"fd:{_STATE_FD}"})
        # The guest's init waits for this line.
        self.send(resume_line(time.time(), host_name))
        if not await self._migrated():
            raise await self._why_it_ended()

    async def _migrated(self) -> bool:
        """Wait until QEMU has saved or loaded a state; return whether that worked."""
        while (status := await self._migration.get()) not in ("completed", "failed", "lost"):
            pass
        return status == "completed"

    async def _plug(self, device: FolderDevice, slot: str) -> None:
        """Plug a device into a slot of the running machine."""
        assert isinstance(device.part, parts.VirtioFs)
        assert device.end is not None
        with device.end as end:
            self._qmp.send_fd_scm(end.fileno())
            await self._qmp.execute("getfd", {"fdname": device.part.tag})
        await self._qmp.execute("chardev-add", device.part.chardev)
        await self._qmp.execute("device_add", {**device.part.device, "bus": slot})

    async def dump_if_asked(self) -> None:
        """Dump the memory of a guest that gives no sign of life, if that is asked for."""
        if self._dump_to is not None:
            await self.pause()
            await self._dump(self._dump_to)

    async def _dump_panicked(self, target: Path) -> None:
        """End QEMU, which has stayed when the guest ended; first dump a guest that panicked."""
        if self._panicked or self._panicked_by_its_words():
            await self._dump(target)
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._qmp.execute("quit")

    async def _dump(self, target: Path) -> None:
        try:
            await dump.write(self._qmp, self._dump_ended.get, target)
        except MachineError as error:
            self.dump_failure = error.what

    async def _set_capabilities(self, *names: str) -> None:
        """Set capabilities of QEMU's migration, when the monitor is connected.

        With `x-ignore-shared`, the state does not have the memory, which is a shared file already.
        """
        await self._qmp_connected.wait()
        capabilities = [{"capability": name, "state": True} for name in names]
        await self._qmp.execute("migrate-set-capabilities", {"capabilities": capabilities})

    async def _send_file(self, path: Path, flags: int) -> None:
        descriptor = os.open(path, flags, 0o644)
        try:
            self._qmp.send_fd_scm(descriptor)
            await self._qmp.execute("getfd", {"fdname": _STATE_FD})
        finally:
            os.close(descriptor)

    async def pause(self) -> None:
        """Stop the guest. A gdb for which it runs is told so, and has its prompt again."""
        await self._qmp_connected.wait()
        # A machine that has ended does not run either.
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._qmp.execute("stop")

    async def pause_again(self, seconds: float) -> None:
        """Pause a guest that a debugger has continued and that then runs for so long."""
        while True:
            await self._runs.wait()
            await asyncio.sleep(seconds)
            if self._runs.is_set():
                await self.pause()
                return

    def watch(self, devices: Iterable[FolderDevice]) -> None:
        """Start to read the machine's channels, and to watch the servers of its folders."""
        self.console.open()
        self._last_words = [
            self._spawn(self._closed_console()),
            self._spawn(self._read_stderr()),
            self._spawn(self._follow_qmp()),
        ]
        for device in devices:
            self._spawn(self._follow_server(device))

    async def wait_until_ready(self) -> None:
        """Wait until the guest says that it is up, and plug in what a restored machine lacks."""
        match event := await anext(self._control_events(), None):
            case Ready(release=release, reports_panics=reports_panics):
                self.release = release
                self._reports_panics |= reports_panics
            case None:
                raise await self._why_it_ended()
            case _:
                raise ProtocolError(f"the guest began with {event}")
        for number, device in enumerate(self._to_plug):
            await self._plug(device, f"slot{number}")

    async def _follow_qmp(self) -> None:
        """Note the events of QEMU until it closes its monitor."""
        try:
            await self._take_qmp_events()
        except (QMPError, OSError, EOFError):
            pass
        finally:
            # Nobody waits any longer for what a QEMU that has ended would have said.
            self._migration.put_nowait("lost")
            self._dump_ended.put_nowait("QEMU ended")
            self._continued.set()

    async def _take_qmp_events(self) -> None:
        try:
            await self._qmp.connect(self._channels.qmp)
        finally:
            self._qmp_connected.set()
        # The listener of events never ends by itself, not even when QEMU is gone.
        closed = asyncio.create_task(self._qmp.runstate_changed())
        while not closed.done() or not self._qmp.events.empty():
            event = asyncio.create_task(self._qmp.events.get())
            try:
                await asyncio.wait({closed, event}, return_when=asyncio.FIRST_COMPLETED)
                if event.done():
                    self._note(event.result())
            finally:
                event.cancel()

    def _note(self, event: Mapping[str, object]) -> None:
        data = cast(dict[str, object], event.get("data", {}))
        match event["event"]:
            case "GUEST_PANICKED":
                self._panicked = True
            case "STOP":
                self._stopped = True
                self._runs.clear()
            case "RESUME":
                self._runs.set()
                if self._stopped:
                    self._continued.set()
            case "DUMP_COMPLETED":
                self._dump_ended.put_nowait(str(data.get("error", "")))
            case "SHUTDOWN" if not self._shutdown:
                self._shutdown = str(data["reason"])
                if self._dump_to is not None:
                    self._dumping = self._spawn(self._dump_panicked(self._dump_to))
            case "MIGRATION":
                self._migration.put_nowait(str(data["status"]))

    async def _closed_console(self) -> None:
        await self.console.closed.wait()

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(_CHUNK_BYTES):
            self._stderr = (self._stderr + data)[-_CHUNK_BYTES:]

    async def _why_it_ended(self) -> Exception:
        """Return the error that says why a machine ended whose channels are closed."""
        try:
            status = await asyncio.wait_for(self._process.wait(), _GRACE_SECONDS)
        except TimeoutError:
            return MachineEndedError("lost", "QEMU closed its channels and did not end")
        # The event loop may not have read the last bytes yet.
        with contextlib.suppress(TimeoutError):
            last_words = asyncio.gather(*self._last_words, return_exceptions=True)
            await asyncio.wait_for(last_words, _LAST_WORDS_SECONDS)
        if self._panicked or self._panicked_by_its_words():
            return MachineEndedError("panic", self._panic_reason())
        said = self._stderr.decode(errors="replace").strip().splitlines()
        if self._server_failure:
            return MachineError(self._server_failure)
        if not self._shutdown and status > 0:
            last = said[-1] if said else f"exit status {status}"
            return MachineError(f"QEMU refused to run: {last}", "Check qemu: in kernels.yaml.")
        if self._shutdown:
            reason = _SHUTDOWNS.get(self._shutdown, f"QEMU ended ({self._shutdown})")
        elif said and _ENDED_BY_GDB in said[-1]:
            reason = "gdb ended the machine"
        else:
            reason = f"QEMU died of signal {-status}" if status else "QEMU ended without a reason"
        return MachineEndedError("lost", reason)

    def _panicked_by_its_words(self) -> bool:
        """Tell whether the console has to decide, and says that the kernel panicked.

        The console decides only for a kernel that can't report panics to QEMU, and before init has
        loaded the driver that does. A test can write the words of a panic to /dev/kmsg.
        """
        reset = self._shutdown == "guest-reset" and not self._reports_panics
        return reset and bool(panic_message(self.console.text()))

    def _panic_reason(self) -> str:
        words = panic_message(self.console.text()) or "the kernel panicked"
        if self._panicked or not self.release:
            return words
        return f"{words} (a guess by the console: the kernel has no pvpanic driver)"

    async def _follow_server(self, device: FolderDevice) -> None:
        """End the machine if the server of a folder ends, since the guest would wait for ever."""
        if device.server is None:
            return
        assert device.server.stderr is not None
        said = (await device.server.stderr.read()).decode(errors="replace").strip().splitlines()
        if status := await device.server.wait():
            why = said[-1] if said else f"exit status {status}"
            self._server_failure = f"{device.folder.path} is no longer served to the guest: {why}"
            await self._kill()

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        self._tasks.append(asyncio.create_task(work))
        return self._tasks[-1]

    async def _kill(self) -> None:
        # Process.kill of Python 3.11 polls the process first. If it has ended, that reaps it, and
        # the event loop, which waits for it too, does not get its exit status.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def end(self) -> None:
        """End QEMU, and the tasks that read from it."""
        await self._kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # QEMU has closed its end, which is an error here
            await self._qmp.disconnect()
        self.console.close()
        self._channels.close()


def panic_message(console: str) -> str:
    """Return the reason of the last panic in the text of a console, or `""`."""
    _, found, rest = console.rpartition("Kernel panic - not syncing: ")
    return rest.splitlines()[0].strip() if found and rest else ""

"""One throw-away machine: QEMU's process, its channels, and what comes out of them.

`bpfmatrix.vm.launch` makes it. `Machine.run` hands it its one job and gives the events. A machine
that ends before its job does raises `MachineEndedError`, which tells a panic, a limit that was
passed and a lost machine apart.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Literal, cast

from qemu.qmp import QMPClient, QMPError

from bpfmatrix.errors import MachineError
from bpfmatrix.vm import parts
from bpfmatrix.vm.channels import Channels
from bpfmatrix.vm.folders import FolderDevice
from bpfmatrix.vm.protocol import (
    CoreSplitter,
    Done,
    Event,
    Exited,
    Job,
    Output,
    OutputSplitter,
    ProtocolError,
    Ready,
    Session,
    Started,
    parse,
    resume_line,
)

__all__ = ["Machine", "MachineEndedError", "panic_message"]

# It logs each message, which nox, whose root logger takes everything, would print.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

# How much longer than the guest's own limit the host waits for word of a test: the guest first
# asks the test to end, then kills it, and may be slow.
_GRACE_SECONDS = 15.0
# With core files, it also waits for these (`patience` in guest/init).
_CORE_SECONDS = 20.0
# A console that is flooded must not fill the disk.
_CONSOLE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 16
_POLL_SECONDS = 0.002
_STATE_FD = "state"


class MachineEndedError(Exception):
    """The machine ended, or had to be given up, before its job was done."""

    def __init__(self, kind: Literal["panic", "lost", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Machine:
    """A running machine, whose kernel's console is written to a file.

    `limited` says whether its limits hold: while a person holds the guest in a debugger, none does.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        channels: Channels,
        console: Path,
        *,
        limited: bool = True,
    ) -> None:
        self._process = process
        self._channels = channels
        self._console = console
        self._limited = limited
        self._qmp = QMPClient("bpfmatrix")
        self._qmp_tried = asyncio.Event()
        self._panicked = False
        self._shutdown = ""
        self._stderr = b""
        self._cores, self._core_came, self._cores_closed = 0, asyncio.Event(), False
        self._tasks: list[asyncio.Task[None]] = []
        self._unserved = ""
        self.release = ""
        """What the guest's kernel calls itself; known from READY on."""

    async def run(self, job: Job) -> AsyncIterator[Event]:
        """Hand over the job; give its events as they come, each test's output before its end."""
        self._write_lines(job.lines())
        events: asyncio.Queue[Event | ProtocolError | None] = asyncio.Queue(maxsize=64)
        await self._channels.open_output()
        if job.core_boundary:
            self._spawn(self._read_cores(CoreSplitter(job.core_boundary), events))
        limits = {test.id: test.limit_seconds for test in job.tests}
        begun = {test.id: asyncio.Event() for test in job.tests}
        closed = {test.id: asyncio.Event() for test in job.tests}
        self._spawn(self._read_output(OutputSplitter(job.tests), events, begun, closed))
        self._spawn(self._read_control(events, begun, closed))
        grace = _GRACE_SECONDS + (_CORE_SECONDS if job.core_boundary else 0.0)
        limit, running = grace, "the job's start"
        while True:
            try:
                event = await asyncio.wait_for(events.get(), limit if self._limited else None)
            except TimeoutError:
                raise MachineEndedError(
                    "lost", f"the guest gave no sign of life for {limit:g} s ({running})"
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
                    limit, running = limits[id] + grace, f"test {id} was running"
                case Exited():
                    limit, running = _GRACE_SECONDS, "between two tests"
            yield event

    async def attend(self, session: Session) -> Exited:
        """Hand over a session and wait until its command ended, for as long as that takes.

        Its streams are the sockets of `streams`, which are the caller's to read and to write.
        """
        self.tell(*session.lines())
        async for event in self._control_events():
            match event:
                case Exited():
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

    def tell(self, *lines: str) -> None:
        """Write lines to the control port."""
        self._write_lines(lines)

    async def _read_output(
        self,
        splitter: OutputSplitter,
        events: "asyncio.Queue[Event | ProtocolError | None]",
        begun: dict[int, asyncio.Event],
        closed: dict[int, asyncio.Event],
    ) -> None:
        while data := await self._channels.output.read(_CHUNK_BYTES):
            for id, chunk, last in splitter.feed(data):
                await begun[id].wait()  # the word of that may still be on its way
                if chunk:
                    await events.put(Output(id, chunk))
                if last:
                    closed[id].set()
        for event in closed.values():
            event.set()

    async def _read_cores(
        self, splitter: CoreSplitter, events: "asyncio.Queue[Event | ProtocolError | None]"
    ) -> None:
        reader = await self._channels.open_error()
        try:
            while data := await reader.read(_CHUNK_BYTES):
                for part in splitter.feed(data):
                    await events.put(part)
                    self._cores += part.last
                self._core_came.set()
        except ProtocolError as error:
            await events.put(error)
        finally:
            self._cores_closed = True
            self._core_came.set()

    async def _read_control(
        self,
        events: "asyncio.Queue[Event | ProtocolError | None]",
        begun: dict[int, asyncio.Event],
        closed: dict[int, asyncio.Event],
    ) -> None:
        try:
            async for event in self._control_events():
                if isinstance(event, Started | Exited) and event.id not in closed:
                    raise ProtocolError(f"the guest's init spoke of a test {event.id}")
                if isinstance(event, Exited):
                    await closed[event.id].wait()
                    while self._cores < event.cores and not self._cores_closed:
                        self._core_came.clear()
                        await self._core_came.wait()
                await events.put(event)
                if isinstance(event, Started):
                    begun[event.id].set()
        except ProtocolError as error:
            await events.put(error)
        else:
            await events.put(None)

    async def _control_events(self) -> AsyncIterator[Event]:
        """Give what the guest says until the channel ends."""
        while line := await self._channels.control.readline():
            if not line.endswith(b"\n"):
                return
            yield parse(line.decode(errors="replace").strip())

    async def save(self, state: Path) -> None:
        """Save a machine that was started with a file for its memory, and is ready.

        The memory stays where it is; all else is written to `state`. The machine then stands
        still and is only good for being left. MachineError where QEMU can't save it.
        """
        status: dict[str, object] = {}
        try:
            await self._set_capabilities()
            await self._send_file(state, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            await self._qmp.execute("migrate", {"uri": f"fd:{_STATE_FD}"})
            while status.get("status") not in ("completed", "failed"):
                await asyncio.sleep(_POLL_SECONDS)
                status = cast(dict[str, object], await self._qmp.execute("query-migrate"))
        except (QMPError, OSError, EOFError) as error:
            raise MachineError(f"QEMU could not save the machine: {error}") from error
        if status["status"] == "failed":
            reason = status.get("error-desc", "it gave no reason")
            raise MachineError(f"QEMU could not save the machine: {reason}")

    async def load(self, state: Path, host_name: str, devices: Sequence[FolderDevice]) -> None:
        """Let a machine that was launched with `Incoming` begin with a saved state, and be ready.

        It is then given the devices, which no saved machine can have.
        """
        await self._set_capabilities()
        await self._send_file(state, os.O_RDONLY)
        await self._qmp.execute("migrate-incoming", {"uri": f"fd:{_STATE_FD}"})
        # The guest goes on by itself, where it waited for a line.
        self._write_lines([resume_line(time.time(), host_name)])
        await self.become_ready()
        for number, device in enumerate(devices):
            await self._plug(device, f"slot{number}")

    async def _plug(self, device: FolderDevice, slot: str) -> None:
        """Give a running machine a device, in one of its slots."""
        assert isinstance(device.part, parts.VirtioFs)
        assert device.end is not None
        with device.end as end:
            self._qmp.send_fd_scm(end.fileno())
            await self._qmp.execute("getfd", {"fdname": device.part.tag})
        await self._qmp.execute("chardev-add", device.part.chardev)
        await self._qmp.execute("device_add", {**device.part.device, "bus": slot})

    async def _set_capabilities(self) -> None:
        # The memory is a file already; without this, QEMU would write it into the state as well.
        await self._qmp_tried.wait()
        capability = {"capability": "x-ignore-shared", "state": True}
        await self._qmp.execute("migrate-set-capabilities", {"capabilities": [capability]})

    async def _send_file(self, path: Path, flags: int) -> None:
        descriptor = os.open(path, flags, 0o644)
        try:
            self._qmp.send_fd_scm(descriptor)
            await self._qmp.execute("getfd", {"fdname": _STATE_FD})
        finally:
            os.close(descriptor)

    def _write_lines(self, lines: Iterable[str]) -> None:
        self._channels.control_writer.write("".join(f"{line}\n" for line in lines).encode())

    def watch(self, devices: Iterable[FolderDevice]) -> None:
        """Begin to read what comes from the machine, and to look after what serves it folders."""
        self._spawn(self._read_console())
        self._spawn(self._read_stderr())
        self._spawn(self._follow_qmp())
        for device in devices:
            self._spawn(self._follow_server(device))

    async def become_ready(self) -> None:
        """Wait until the guest says that it is up."""
        match event := await anext(self._control_events(), None):
            case Ready(release=release):
                self.release = release
            case None:
                raise await self._why_it_ended()
            case _:
                raise ProtocolError(f"the guest began with {event}")

    async def _follow_qmp(self) -> None:
        with contextlib.suppress(QMPError, OSError, EOFError):
            try:
                await self._qmp.connect(self._channels.qmp)
            finally:
                self._qmp_tried.set()
            async for event in self._qmp.events:
                if event["event"] == "GUEST_PANICKED":
                    self._panicked = True
                elif event["event"] == "SHUTDOWN":
                    self._shutdown = str(cast(dict[str, object], event["data"])["reason"])

    async def _read_console(self) -> None:
        size = 0
        with self._console.open("ab", buffering=0) as file:
            while data := await self._channels.console.read(_CHUNK_BYTES):
                # Without space for it the console goes on all the same: the guest waits for it.
                with contextlib.suppress(OSError):
                    file.write(data[: max(0, _CONSOLE_BYTES - size)])
                size += len(data)

    async def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(_CHUNK_BYTES):
            self._stderr = (self._stderr + data)[-_CHUNK_BYTES:]

    async def _why_it_ended(self) -> Exception:
        """Tell what ended a machine whose channels closed."""
        try:
            status = await asyncio.wait_for(self._process.wait(), _GRACE_SECONDS)
        except TimeoutError:
            return MachineEndedError("lost", "QEMU closed its channels and did not end")
        # The last bytes of each channel may still be on their way through the loop.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*self._tasks[:3], return_exceptions=True), 2.0)
        words = panic_message(self._console.read_text(errors="replace"))
        if self._panicked or (self._shutdown == "guest-reset" and words):
            return MachineEndedError("panic", words or "the kernel panicked")
        said = self._stderr.decode(errors="replace").strip().splitlines()
        if self._unserved:
            return MachineError(self._unserved)
        if self._shutdown:
            return MachineEndedError("lost", f"the guest ended its machine ({self._shutdown})")
        if status > 0:
            last = said[-1] if said else f"exit status {status}"
            return MachineError(f"QEMU refused to run: {last}", "Check qemu: in kernels.yaml.")
        return MachineEndedError("lost", f"QEMU died of signal {-status}")

    async def _follow_server(self, device: FolderDevice) -> None:
        """End the machine if what serves a folder ended: the guest would wait for ever."""
        if device.server is None:
            return
        assert device.server.stderr is not None
        said = (await device.server.stderr.read()).decode(errors="replace").strip().splitlines()
        if status := await device.server.wait():
            why = said[-1] if said else f"exit status {status}"
            self._unserved = f"{device.folder.path} is no longer served to the guest: {why}"
            await self._kill()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _kill(self) -> None:
        # Not by Process.kill, which looks first whether it ended, and so takes its status away from
        # the loop, which waits for it (Python 3.11).
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def end(self) -> None:
        """End QEMU, and all that reads from it."""
        await self._kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # the other end is gone, which is an error to it
            await self._qmp.disconnect()
        self._channels.close()


def panic_message(console: str) -> str:
    """Return the reason of the last panic that a console's text tells of, or nothing."""
    _, found, rest = console.rpartition("Kernel panic - not syncing: ")
    return rest.splitlines()[0].strip() if found and rest else ""

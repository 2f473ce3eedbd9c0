"""One throw-away machine: QEMU's process, its channels, and what comes out of them.

`start` boots a machine, `restore` brings back one that was saved; both give it once it is ready.
`Machine.run` hands it its one job and gives the events; leaving `start` ends it, however that
happens. A machine that ends before its job does
raises `MachineEndedError`, which tells a panic, a limit that was passed and a lost machine apart.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from qemu.qmp import QMPClient, QMPError

from bpfmatrix.errors import MachineError, ToolMissingError
from bpfmatrix.hostfiles import HostFolder
from bpfmatrix.vm import parts
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

__all__ = [
    "CHANNELS",
    "Machine",
    "MachineEndedError",
    "MachineSpec",
    "RestoreError",
    "debugged",
    "machine_parts",
    "restore",
    "start",
    "tied_to_this_process",
]

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
# A restored guest answers within 0.1 s; this is for a host that is very busy.
_RESTORE_SECONDS = 10.0
_POLL_SECONDS = 0.002
_STATE_FD = "state"


@dataclass(frozen=True)
class MachineSpec:
    """All that a machine is made from."""

    qemu: str
    arch: str
    accelerator: str
    cpus: int
    memory_bytes: int
    boot: Path
    initramfs: Path
    payload: Path
    kernel_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    boot_limit_seconds: float = 60.0
    folders: tuple[HostFolder, ...] = ()
    """What the guest sees of the host's files."""
    network: bool = False
    """Whether it has QEMU's user network."""
    slots: int = 0
    """For how many folders there is a slot, so that a restored machine can be given them. A saved
    machine can't have them: they are connections."""


class MachineEndedError(Exception):
    """The machine ended, or had to be given up, before its job was done."""

    def __init__(self, kind: Literal["panic", "lost", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class RestoreError(Exception):
    """A saved machine did not come back; nothing was run in it."""


class Machine:
    """A running machine. Made by `start` or `restore`."""

    def __init__(
        self, process: asyncio.subprocess.Process, channels: "_Channels", console: Path
    ) -> None:
        self._process = process
        self._channels = channels
        self._console = console
        # Whether its limits hold. While a person holds the guest in a debugger, none does.
        self._limited = True
        self._qmp = QMPClient("bpfmatrix")
        self._qmp_tried = asyncio.Event()
        self._panicked = False
        self._shutdown = ""
        self._stderr = b""
        self._cores, self._core_came, self._cores_closed = 0, asyncio.Event(), False
        self._tasks: list[asyncio.Task[None]] = []
        self._devices: tuple[_FolderDevice, ...] = ()
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

    async def _load(self, state: Path, host_name: str) -> None:
        """Let a machine that was launched with Incoming begin with a saved state."""
        self._watch()
        await self._set_capabilities()
        await self._send_file(state, os.O_RDONLY)
        await self._qmp.execute("migrate-incoming", {"uri": f"fd:{_STATE_FD}"})
        # The guest goes on by itself, where it waited for a line.
        self._write_lines([resume_line(time.time(), host_name)])
        await self._expect_ready()
        for number, device in enumerate(self._devices):
            await self._plug(device, f"slot{number}")

    async def _plug(self, device: "_FolderDevice", slot: str) -> None:
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

    def _watch(self) -> None:
        self._spawn(self._read_console())
        self._spawn(self._read_stderr())
        self._spawn(self._follow_qmp())

    async def _become_ready(self, limit_seconds: float) -> None:
        self._watch()
        try:
            async with asyncio.timeout(limit_seconds):
                await self._expect_ready()
        except TimeoutError:
            raise MachineEndedError(
                "timeout", f"the kernel was not up after {limit_seconds:g} s (timeout.boot)"
            ) from None

    async def become_ready(self) -> None:
        """Wait until a machine that `debugged` started is up, however long gdb holds it."""
        await self._expect_ready()

    async def _expect_ready(self) -> None:
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

    async def _follow_server(self, device: "_FolderDevice") -> None:
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

    async def _end(self) -> None:
        await self._kill()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # the other end is gone, which is an error to it
            await self._qmp.disconnect()
        self._channels.close()


CHANNELS = ("qmp", "console", "control", "output", "input", "error")

_PORTS = ("control", "output", "input", "error")


class _Channels:
    """Our ends of QEMU's sockets."""

    def __init__(self, ours: dict[str, socket.socket]) -> None:
        self.qmp = ours["qmp"]
        self.ours = ours
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> None:
        """Turn the sockets into streams of the running loop."""
        self.console, writer = await asyncio.open_connection(sock=self.ours["console"])
        self._writers.append(writer)
        self.control, self.control_writer = await asyncio.open_connection(sock=self.ours["control"])
        self._writers.append(self.control_writer)

    async def open_output(self) -> None:
        """Turn the socket of the tests' output into a stream."""
        self.output, writer = await asyncio.open_connection(sock=self.ours["output"])
        self._writers.append(writer)

    async def open_error(self) -> asyncio.StreamReader:
        """Turn the socket of the core files into a stream, and return it."""
        reader, writer = await asyncio.open_connection(sock=self.ours["error"])
        self._writers.append(writer)
        return reader

    def close(self) -> None:
        """Close all of them."""
        for writer in self._writers:
            writer.close()
        for name in ("qmp", "output", "input", "error"):
            self.ours[name].close()


@contextlib.contextmanager
def _socket_pairs() -> Iterator[tuple[dict[str, socket.socket], dict[str, socket.socket]]]:
    """Give our ends and QEMU's. Sockets without a name leave no file behind, whoever dies."""
    pairs = {name: socket.socketpair() for name in CHANNELS}
    try:
        yield (
            {name: pair[0] for name, pair in pairs.items()},
            {name: pair[1] for name, pair in pairs.items()},
        )
    finally:
        for pair in pairs.values():
            pair[1].close()


def machine_parts(
    spec: MachineSpec, fds: dict[str, int], *variant: parts.Part
) -> tuple[parts.Part, ...]:
    """Return the parts of a machine; `variant` says what memory it has and how it begins."""
    return (
        parts.Board(spec.arch, spec.cpus),
        parts.Accelerator(spec.arch, spec.accelerator),
        *variant,
        parts.Monitor(fds["qmp"]),
        parts.Console(spec.arch, fds["console"]),
        parts.Ports(tuple((f"bpfmatrix.{name}", fds[name]) for name in _PORTS)),
        parts.PayloadDisk(spec.payload),
        *((parts.UserNetwork(),) if spec.network else ()),
        parts.Slots(spec.slots),
        parts.Kernel(spec.boot, spec.initramfs, spec.kernel_args),
        parts.ExtraArguments(spec.extra_args),
    )


def tied_to_this_process(command: Sequence[str]) -> list[str]:
    """Return a command that the kernel kills when we die, even of SIGKILL.

    Whoever died before setpriv asked for that is no longer the parent by the time that the shell
    starts, and nothing is run then.
    """
    ours = str(os.getpid())
    return [
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', ours, *command),
    ]


@contextlib.asynccontextmanager
async def _launched(
    spec: MachineSpec, console: Path, *variant: parts.Part, inherited: Sequence[int] = ()
) -> AsyncIterator[Machine]:
    """Start QEMU, which inherits some descriptors, and end it whatever happens."""
    if shutil.which(spec.qemu) is None:
        raise ToolMissingError(f"{spec.qemu} is not installed", "Run ./bootstrap.")
    later = any(isinstance(part, parts.Incoming) for part in variant)
    async with _served(spec.folders) as devices:
        at_once = () if later else devices
        ends = [device.end for device in at_once if device.end is not None]
        variant += tuple(device.part for device in at_once)
        with _socket_pairs() as (ours, theirs), contextlib.ExitStack() as ours_no_more:
            for end in ends:
                ours_no_more.enter_context(end)
            fds = {name: end.fileno() for name, end in theirs.items()}
            command = parts.command(spec.qemu, machine_parts(spec, fds, *variant))
            process = await asyncio.create_subprocess_exec(
                *tied_to_this_process(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(*fds.values(), *inherited, *(end.fileno() for end in ends)),
                # Ctrl-C at the terminal is ours to handle.
                start_new_session=True,
            )
        channels = _Channels(ours)
        machine = Machine(process, channels, console)
        machine._devices = devices if later else ()
        following = [asyncio.create_task(machine._follow_server(device)) for device in devices]
        try:
            await channels.open()
            yield machine
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            await machine._end()


@dataclass(frozen=True)
class _FolderDevice:
    """A folder of the host's, as a device; `end` is QEMU's of the socket to what serves it."""

    part: parts.VirtioFs | parts.NineP
    folder: HostFolder
    end: socket.socket | None = None
    server: asyncio.subprocess.Process | None = None


@contextlib.asynccontextmanager
async def _served(folders: Sequence[HostFolder]) -> AsyncIterator[tuple[_FolderDevice, ...]]:
    """Give the devices of the folders that the guest sees.

    A process serves each that is not QEMU's own to serve.
    """
    devices: list[_FolderDevice] = []
    try:
        for folder in folders:
            if folder.transport == "9p":
                part = parts.NineP(folder.tag, folder.path, folder.writable)
                devices.append(_FolderDevice(part, folder))
                continue
            ours, theirs = socket.socketpair()
            with ours:
                server = await _serve(folder, ours)
            virtiofs = parts.VirtioFs(folder.tag, theirs.fileno())
            devices.append(_FolderDevice(virtiofs, folder, theirs, server))
        yield tuple(devices)
    finally:
        for device in devices:
            if device.end is not None:
                device.end.close()
            if device.server is not None:
                # It would end by itself, if not a file system of the host's holds it up.
                with contextlib.suppress(ProcessLookupError):
                    device.server.kill()
                await device.server.wait()


async def _serve(folder: HostFolder, connection: socket.socket) -> asyncio.subprocess.Process:
    """Start the process that serves a folder."""
    fd, mode = str(connection.fileno()), "rw" if folder.writable else "ro"
    words = (fd, mode, str(folder.valid_seconds), str(folder.path))
    return await asyncio.create_subprocess_exec(
        *tied_to_this_process([sys.executable, "-m", "bpfmatrix.hostfiles.server", *words]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=[connection.fileno()],
        start_new_session=True,
    )


@contextlib.asynccontextmanager
async def start(
    spec: MachineSpec, console: Path, memory: Path | None = None
) -> AsyncIterator[Machine]:
    """Boot a machine and give it once it is ready; its kernel's console is written to a file.

    With `memory`, the guest's memory is that file, made here: see `Machine.save`.
    MachineEndedError where the guest does not get that far, MachineError where QEMU does not.
    """
    shared = memory is not None or bool(spec.folders)
    part = parts.Memory(spec.memory_bytes, memory, shared)
    async with _launched(spec, console, part) as machine:
        await machine._become_ready(spec.boot_limit_seconds)
        yield machine


@contextlib.asynccontextmanager
async def restore(
    spec: MachineSpec, console: Path, memory: Path, state: Path, host_name: str
) -> AsyncIterator[Machine]:
    """Restore a machine that `Machine.save` saved, and give it once it is ready again.

    Any number of machines may be restored from the same files, which none of them changes; what
    they write to the console is appended to its file. RestoreError where it does not come back.
    """
    async with contextlib.AsyncExitStack() as stack:
        if spec.folders:
            # What serves the folders maps the memory too, and so can't have it copied on write.
            copy = stack.enter_context(_copy_in_memory(memory))
            inherited = [copy]
            part = parts.Memory(spec.memory_bytes, Path(f"/proc/self/fd/{copy}"), shared=True)
        else:
            inherited, part = [], parts.Memory(spec.memory_bytes, memory)
        machine = await stack.enter_async_context(
            _launched(spec, console, part, parts.Incoming(), inherited=inherited)
        )
        try:
            async with asyncio.timeout(_RESTORE_SECONDS):
                await machine._load(state, host_name)
        except TimeoutError:
            raise RestoreError(f"no sign of life within {_RESTORE_SECONDS:g} s") from None
        except (QMPError, OSError, EOFError, ProtocolError, MachineEndedError) as error:
            raise RestoreError(str(error)) from error
        except MachineError as error:
            raise RestoreError(error.what) from error
        yield machine


@contextlib.contextmanager
def _copy_in_memory(path: Path) -> Iterator[int]:
    """Give a file without a name that has the content of another one, with its holes."""
    copy = os.memfd_create("bpfmatrix", os.MFD_CLOEXEC)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            os.truncate(copy, size)
            start = 0
            while start < size:
                try:
                    start = os.lseek(file.fileno(), start, os.SEEK_DATA)
                except OSError:  # ENXIO: only a hole is left
                    break
                end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                os.lseek(copy, start, os.SEEK_SET)
                while start < end:
                    start += os.sendfile(copy, file.fileno(), start, end - start)
        yield copy
    finally:
        os.close(copy)


@contextlib.asynccontextmanager
async def debugged(spec: MachineSpec, console: Path, gdb: socket.socket) -> AsyncIterator[Machine]:
    """Give a machine that stands before its first instruction until gdb lets it go.

    `gdb` is a socket that listens; QEMU takes it over. `Machine.become_ready` comes before
    `Machine.run`. No limit holds: a person may look at the guest for as long as they like.
    """
    memory = parts.Memory(spec.memory_bytes, shared=bool(spec.folders))
    way_in = parts.Debugger(gdb.fileno())
    async with _launched(spec, console, memory, way_in, inherited=[gdb.fileno()]) as machine:
        # Only QEMU is to have it: with QEMU, the port is gone.
        gdb.close()
        machine._limited = False
        machine._watch()
        yield machine


def panic_message(console: str) -> str:
    """Return the reason of the last panic that a console's text tells of, or nothing."""
    _, found, rest = console.rpartition("Kernel panic - not syncing: ")
    return rest.splitlines()[0].strip() if found and rest else ""

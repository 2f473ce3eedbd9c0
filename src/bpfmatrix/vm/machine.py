"""One throw-away machine: QEMU's process, its channels, and what comes out of them.

`start` boots a machine and gives it once it is ready; `Machine.run` hands it its one job and gives
the events; leaving `start` ends it, however that happens. A machine that ends before its job does
raises `MachineEndedError`, which tells a panic, a limit that was passed and a lost machine apart.
"""

import asyncio
import contextlib
import logging
import shutil
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from qemu.qmp import QMPClient, QMPError

from bpfmatrix.errors import MachineError, ToolMissingError
from bpfmatrix.vm import parts
from bpfmatrix.vm.protocol import (
    Done,
    Event,
    Exited,
    Job,
    Output,
    OutputSplitter,
    ProtocolError,
    Ready,
    Started,
    parse,
)

__all__ = ["Machine", "MachineEndedError", "MachineSpec", "start"]

# It logs each message, which nox, whose root logger takes everything, would print.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

# How much longer than the guest's own limit the host waits for word of a test: the guest first
# asks the test to end, then kills it, and may be slow.
_GRACE_SECONDS = 15.0
# A console that is flooded must not fill the disk.
_CONSOLE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class MachineSpec:
    """All that a machine is made from."""

    qemu: str
    accelerator: str
    cpus: int
    memory_bytes: int
    boot: Path
    initramfs: Path
    payload: Path
    kernel_args: tuple[str, ...] = ()
    extra_args: tuple[str, ...] = ()
    boot_limit_seconds: float = 60.0


class MachineEndedError(Exception):
    """The machine ended, or had to be given up, before its job was done."""

    def __init__(self, kind: Literal["panic", "lost", "timeout"], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Machine:
    """A running machine. Made by `start`."""

    def __init__(
        self, process: asyncio.subprocess.Process, channels: "_Channels", console: Path
    ) -> None:
        self._process = process
        self._channels = channels
        self._console = console
        self._qmp = QMPClient("bpfmatrix")
        self._panicked = False
        self._shutdown = ""
        self._stderr = b""
        self._tasks: list[asyncio.Task[None]] = []
        self.release = ""
        """What the guest's kernel calls itself; known from READY on."""

    async def run(self, job: Job) -> AsyncIterator[Event]:
        """Hand over the job; give its events as they come, each test's output before its end."""
        self._channels.control_writer.write("".join(f"{line}\n" for line in job.lines()).encode())
        events: asyncio.Queue[Event | ProtocolError | None] = asyncio.Queue(maxsize=64)
        limits = {test.id: test.limit_seconds for test in job.tests}
        closed = {test.id: asyncio.Event() for test in job.tests}
        self._spawn(self._read_output(OutputSplitter(job.tests), events, closed))
        self._spawn(self._read_control(events, closed))
        limit, running = _GRACE_SECONDS, "the job's start"
        while True:
            try:
                event = await asyncio.wait_for(events.get(), limit)
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
                    limit, running = limits[id] + _GRACE_SECONDS, f"test {id} was running"
                case Exited():
                    limit, running = _GRACE_SECONDS, "between two tests"
            yield event

    async def _read_output(
        self,
        splitter: OutputSplitter,
        events: "asyncio.Queue[Event | ProtocolError | None]",
        closed: dict[int, asyncio.Event],
    ) -> None:
        while data := await self._channels.output.read(_CHUNK_BYTES):
            for id, chunk, last in splitter.feed(data):
                if chunk:
                    await events.put(Output(id, chunk))
                if last:
                    closed[id].set()
        for event in closed.values():
            event.set()

    async def _read_control(
        self,
        events: "asyncio.Queue[Event | ProtocolError | None]",
        closed: dict[int, asyncio.Event],
    ) -> None:
        try:
            async for event in self._control_events():
                if isinstance(event, Started | Exited) and event.id not in closed:
                    raise ProtocolError(f"the guest's init spoke of a test {event.id}")
                if isinstance(event, Exited):
                    await closed[event.id].wait()
                await events.put(event)
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

    async def _become_ready(self, limit_seconds: float) -> None:
        self._spawn(self._read_console())
        self._spawn(self._read_stderr())
        self._spawn(self._follow_qmp())
        try:
            event = await asyncio.wait_for(anext(self._control_events(), None), limit_seconds)
        except TimeoutError:
            raise MachineEndedError(
                "timeout", f"the kernel was not up after {limit_seconds:g} s (timeout.boot)"
            ) from None
        match event:
            case Ready(release=release):
                self.release = release
            case None:
                raise await self._why_it_ended()
            case _:
                raise ProtocolError(f"the guest began with {event}")

    async def _follow_qmp(self) -> None:
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._qmp.connect(self._channels.qmp)
            async for event in self._qmp.events:
                if event["event"] == "GUEST_PANICKED":
                    self._panicked = True
                elif event["event"] == "SHUTDOWN":
                    self._shutdown = str(cast(dict[str, object], event["data"])["reason"])

    async def _read_console(self) -> None:
        size = 0
        with self._console.open("wb", buffering=0) as file:
            while data := await self._channels.console.read(_CHUNK_BYTES):
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
        if self._shutdown:
            return MachineEndedError("lost", f"the guest ended its machine ({self._shutdown})")
        if status > 0:
            last = said[-1] if said else f"exit status {status}"
            return MachineError(f"QEMU refused to run: {last}", "Check qemu: in kernels.yaml.")
        return MachineEndedError("lost", f"QEMU died of signal {-status}")

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(Exception):  # the other end is gone, which is an error to it
            await self._qmp.disconnect()
        self._channels.close()


class _Channels:
    """Our ends of QEMU's sockets."""

    NAMES = ("qmp", "console", "control", "output")

    def __init__(self, ours: dict[str, socket.socket]) -> None:
        self.qmp = ours["qmp"]
        self._ours = ours

    async def open(self) -> None:
        """Turn the sockets into streams of the running loop."""
        self.console, self._console_writer = await asyncio.open_connection(
            sock=self._ours["console"]
        )
        self.control, self.control_writer = await asyncio.open_connection(
            sock=self._ours["control"]
        )
        self.output, self._output_writer = await asyncio.open_connection(sock=self._ours["output"])

    def close(self) -> None:
        """Close all of them."""
        for writer in (self._console_writer, self.control_writer, self._output_writer):
            writer.close()
        self.qmp.close()


@contextlib.contextmanager
def _socket_pairs() -> Iterator[tuple[dict[str, socket.socket], dict[str, socket.socket]]]:
    """Give our ends and QEMU's. Sockets without a name leave no file behind, whoever dies."""
    pairs = {name: socket.socketpair() for name in _Channels.NAMES}
    try:
        yield (
            {name: pair[0] for name, pair in pairs.items()},
            {name: pair[1] for name, pair in pairs.items()},
        )
    finally:
        for pair in pairs.values():
            pair[1].close()


def _parts(spec: MachineSpec, fds: dict[str, int]) -> tuple[parts.Part, ...]:
    return (
        parts.Board(spec.cpus, spec.memory_bytes),
        parts.Accelerator(spec.accelerator),
        parts.Monitor(fds["qmp"]),
        parts.Console(fds["console"]),
        parts.Ports((("bpfmatrix.control", fds["control"]), ("bpfmatrix.output", fds["output"]))),
        parts.PayloadDisk(spec.payload),
        parts.Kernel(spec.boot, spec.initramfs, spec.kernel_args),
        parts.ExtraArguments(spec.extra_args),
    )


@contextlib.asynccontextmanager
async def start(spec: MachineSpec, console: Path) -> AsyncIterator[Machine]:
    """Boot a machine and give it once it is ready; its kernel's console is written to a file.

    MachineEndedError where the guest does not get that far, MachineError where QEMU does not.
    """
    if shutil.which(spec.qemu) is None:
        raise ToolMissingError(f"{spec.qemu} is not installed", "Run ./bootstrap.")
    with _socket_pairs() as (ours, theirs):
        fds = {name: end.fileno() for name, end in theirs.items()}
        command = parts.command(spec.qemu, _parts(spec, fds))
        process = await asyncio.create_subprocess_exec(
            # The kernel kills QEMU when we die, even of SIGKILL.
            *("setpriv", "--pdeathsig", "KILL", "--", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(fds.values()),
            # Ctrl-C at the terminal is ours to handle.
            start_new_session=True,
        )
    channels = _Channels(ours)
    await channels.open()
    machine = Machine(process, channels, console)
    try:
        await machine._become_ready(spec.boot_limit_seconds)
        yield machine
    finally:
        await machine._end()


def panic_message(console: str) -> str:
    """Return the reason of the last panic that a console's text tells of, or nothing."""
    _, found, rest = console.rpartition("Kernel panic - not syncing: ")
    return rest.splitlines()[0].strip() if found and rest else ""

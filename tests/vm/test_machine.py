"""`Machine` without QEMU: the tests have the other ends of its channels.

Machines that end, hang or never start are tested with real kernels, in tests/integration.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.vm import machine
from bpfmatrix.vm.channels import Channels, socket_pairs
from bpfmatrix.vm.machine import Machine, MachineEndedError
from bpfmatrix.vm.protocol import (
    Done,
    Event,
    Exited,
    Job,
    Output,
    ProtocolError,
    Started,
    TestCommand,
)

BOUNDARY = b"0123456789abcdef"
SECRET = b"fedcba9876543210"
JOB = Job((TestCommand(1, ("/payload/t",), 0.5, BOUNDARY),), "payload-id", secret=SECRET)
EXITED = b"exited 1 " + BOUNDARY + b" status=0 limit=no oom_kills=0 tainted=0 before=0 full=\n"
DONE = b"done " + SECRET + b"\n"


class Guest:
    """The other ends of a machine's channels. The machine itself has no process."""

    def __init__(self, tmp_path: Path) -> None:
        self._pairs = socket_pairs()
        ours, self.ends = self._pairs.__enter__()
        self.console = tmp_path / "console.log"
        self.channels = Channels(ours)

    @asynccontextmanager
    async def machine(self) -> AsyncIterator[Machine]:
        """Give the machine of these channels."""
        await self.channels.open()
        process: Any = None
        made = Machine(process, self.channels, self.console)
        try:
            yield made
        finally:
            for task in made._tasks:
                task.cancel()
            self.channels.close()
            self._pairs.__exit__(None, None, None)

    def say(self, line: bytes) -> None:
        """Write to the control port."""
        self.ends["control"].sendall(line)

    def print(self, data: bytes) -> None:
        """Write to the output port."""
        self.ends["output"].sendall(data)


def events_of(tmp_path: Path, script: Callable[[Guest], object]) -> list[Event]:
    """Return the events of a job, in which the guest does what the script does."""

    async def collect() -> list[Event]:
        guest = Guest(tmp_path)
        async with guest.machine() as made:
            script(guest)
            return [event async for event in made.run(JOB)]

    return asyncio.run(collect())


def test_all_output_comes_before_the_end_of_its_test(tmp_path: Path) -> None:
    async def late() -> list[Event]:
        guest, events = Guest(tmp_path), []
        async with guest.machine() as made:
            guest.say(b"started 1\n" + EXITED + DONE)
            async for event in made.run(JOB):
                events.append(event)
                if isinstance(event, Started):
                    # The control port was read to its end, and the machine now has as many turns of
                    # the event loop as it could need to pass on, wrongly, that the test ended.
                    for _ in range(100):
                        await asyncio.sleep(0)
                    guest.print(b"late" + BOUNDARY)
        return events

    assert asyncio.run(late()) == [Started(1), Output(1, b"late"), Exited(1, 0), Done()]


def test_a_verdict_in_the_output_is_ignored(tmp_path: Path) -> None:
    lie = EXITED.replace(BOUNDARY, SECRET) + DONE

    def lies(guest: Guest) -> None:
        guest.say(b"started 1\n")
        guest.print(lie + BOUNDARY)
        guest.say(EXITED.replace(b"status=0", b"status=1") + DONE)

    found = events_of(tmp_path, lies)
    assert found == [Started(1), Output(1, lie), Exited(1, 1), Done()]


@pytest.mark.parametrize(
    "line",
    [
        *(b"hello\n", EXITED.replace(b"=0", b"=x"), b"started 9\n", b"started 1\n", DONE),
        *(EXITED.replace(BOUNDARY, SECRET), b"left 2 " + BOUNDARY + b" x\n"),
    ],
)
def test_a_guest_that_breaks_the_protocol_ends_the_run(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(ProtocolError, match="the guest's init"):
        events_of(tmp_path, lambda guest: guest.say(b"started 1\n" + line))


def test_a_line_without_an_end_ends_the_run(tmp_path: Path) -> None:
    def flood(guest: Guest) -> None:
        guest.say(b"started 1\n")
        guest.ends["control"].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                guest.say(b"x" * 4096)

    with pytest.raises(ProtocolError, match="a line without an end"):
        events_of(tmp_path, flood)


def test_a_guest_that_falls_silent_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_GRACE_SECONDS", 0.3)
    with pytest.raises(MachineEndedError, match=r"no sign of life for 0\.8 s \(test 1 was") as one:
        events_of(tmp_path, lambda guest: guest.say(b"started 1\n"))
    assert one.value.kind == "lost"


@pytest.mark.parametrize(
    ("command", "reason"),
    [("exit 0", "QEMU ended without a reason"), ("kill -BUS $$", "QEMU died of signal 7")],
)
def test_a_qemu_that_ends_without_a_word(tmp_path: Path, command: str, reason: str) -> None:
    async def end() -> Exception:
        guest = Guest(tmp_path)
        async with guest.machine() as made:
            made._process = await asyncio.create_subprocess_shell(command)
            return await made._why_it_ended()

    error = asyncio.run(end())
    assert isinstance(error, MachineEndedError)
    assert (error.kind, error.reason) == ("lost", reason)


def test_a_qemu_that_has_ended_before_its_job(tmp_path: Path) -> None:
    async def run() -> list[Event]:
        guest = Guest(tmp_path)
        async with guest.machine() as made:
            made._process = await asyncio.create_subprocess_shell("kill -BUS $$")
            for end in guest.ends.values():
                end.close()
            # The write of the job finds that before the reader does.
            return [event async for event in made.run(JOB)]

    with pytest.raises(MachineEndedError, match="QEMU died of signal 7"):
        asyncio.run(run())


def test_a_guest_that_a_debugger_continues_is_paused_again(tmp_path: Path) -> None:
    """The guest stops by itself first, at a breakpoint, and then goes on."""

    async def paused() -> list[str]:
        guest, executed = Guest(tmp_path), []
        async with guest.machine() as made:

            async def execute(command: str) -> None:
                executed.append(command)

            made._qmp.execute = execute  # type: ignore[assignment, method-assign]
            made._qmp_connected.set()
            waiting = asyncio.create_task(made.pause_again(0))
            for event in ("STOP", "RESUME", "STOP"):
                made._note({"event": event})
            # It has as many turns of the event loop as it could need to pause, wrongly.
            for _ in range(100):
                await asyncio.sleep(0)
            assert not executed
            made._note({"event": "RESUME"})
            await waiting
        return executed

    assert asyncio.run(paused()) == ["stop"]

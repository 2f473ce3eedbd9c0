"""The machine's process and channels, with a stand-in for QEMU that a test tells what to do."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bpfmatrix.errors import MachineError, ToolMissingError
from bpfmatrix.vm import machine
from bpfmatrix.vm.machine import MachineEndedError, MachineSpec
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

# Finds its ends of the channels by the order in which they stand on the command line.
STAND_IN = f"""#!{sys.executable} -S
import os, re, signal, sys, time
fds = [int(n) for n in re.findall(r"fd=(\\d+)", " ".join(sys.argv))]
qmp, console, control, output = fds
def say(line): os.write(control, line.encode() + b"\\n")
def hear(count):
    got = b""
    while got.count(b"\\n") < count: got += os.read(control, 4096)
    return got.decode()
def exited(id, **more):
    values = dict(status=0, limit="no", oom_kills=0, tainted=0, full="") | more
    say(f"exited {{id}} " + " ".join(f"{{k}}={{v}}" for k, v in values.items()))
"""
BOUNDARY = b"the boundary of the first test.."
JOB = Job((TestCommand(1, ("/payload/x",), 0.5, BOUNDARY),), "id")
JOB_LINES = len(list(JOB.lines()))


@pytest.fixture
def spec(tmp_path: Path) -> MachineSpec:
    return MachineSpec(
        arch="x86_64",
        qemu=str(tmp_path / "qemu"),
        accelerator="tcg",
        cpus=1,
        memory_bytes=1 << 20,
        boot=Path("/nowhere"),
        initramfs=Path("/nowhere"),
        payload=Path("/nowhere"),
        boot_limit_seconds=20,
    )


def run(spec: MachineSpec, does: str) -> list[Event]:
    """Let the stand-in do this; return the events, or raise what `start` or `run` do."""
    qemu = Path(spec.qemu)
    qemu.write_text(STAND_IN + does)
    qemu.chmod(0o755)

    async def events() -> AsyncIterator[Event]:
        async with machine.start(spec, qemu.with_name("console.log")) as guest:
            assert guest.release == "6.1.0"
            async for event in guest.run(JOB):
                yield event

    async def collect() -> list[Event]:
        return [event async for event in events()]

    return asyncio.run(collect())


READY = f"say('ready 6.1.0'); hear({JOB_LINES})\n"
STARTED = READY + "say('started 1')\n"


def test_a_job_from_begin_to_end(spec: MachineSpec) -> None:
    events = run(
        spec,
        STARTED
        + f"os.write(output, b'hello {BOUNDARY.decode()}'); exited(1, status=3); say('done')\n",
    )
    assert events == [Started(1), Output(1, b"hello "), Exited(1, 3), Done()]


def test_all_output_comes_before_the_end_of_its_test(spec: MachineSpec) -> None:
    events = run(
        spec,
        STARTED
        + f"exited(1); time.sleep(0.3); os.write(output, b'late{BOUNDARY.decode()}'); say('done')",
    )
    assert events == [Started(1), Output(1, b"late"), Exited(1, 0), Done()]


def test_a_verdict_in_the_output_is_none(spec: MachineSpec) -> None:
    fake = b"exited 1 status=0 limit=no oom_kills=0 tainted=0 full=\ndone\n"
    events = run(
        spec,
        STARTED + f"os.write(output, {fake!r} + {BOUNDARY!r}); exited(1, status=1); say('done')\n",
    )
    assert events == [Started(1), Output(1, fake), Exited(1, 1), Done()]


@pytest.mark.parametrize(
    "line", ["hello", "exited 1 status=x", "exited 9 status=0 limit=no oom_kills=0 tainted=0 full="]
)
def test_a_guest_that_talks_nonsense_is_not_waited_for(spec: MachineSpec, line: str) -> None:
    started = time.monotonic()
    with pytest.raises(ProtocolError, match="the guest's init"):
        run(spec, STARTED + f"say({line!r}); time.sleep(60)\n")
    assert time.monotonic() - started < 10


def test_a_guest_that_begins_with_something_else(spec: MachineSpec) -> None:
    with pytest.raises(ProtocolError, match="the guest began with Done"):
        run(spec, "say('done'); time.sleep(60)\n")


def test_a_boot_has_a_limit(spec: MachineSpec) -> None:
    slow = MachineSpec(**{**vars(spec), "boot_limit_seconds": 0.4})
    with pytest.raises(MachineEndedError, match=r"not up after 0\.4 s \(timeout\.boot\)") as caught:
        run(slow, "time.sleep(60)\n")
    assert caught.value.kind == "timeout"


def test_a_guest_that_falls_silent_is_lost(
    spec: MachineSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_GRACE_SECONDS", 0.3)
    with pytest.raises(MachineEndedError, match=r"no sign of life for 0\.8 s \(test 1 was") as one:
        run(spec, STARTED + "time.sleep(60)\n")
    assert one.value.kind == "lost"


def test_qemu_that_dies_of_a_signal_is_lost(spec: MachineSpec) -> None:
    with pytest.raises(MachineEndedError, match="QEMU died of signal 9") as caught:
        run(spec, STARTED + "os.kill(os.getpid(), 9)\n")
    assert caught.value.kind == "lost"


def test_qemu_that_refuses_its_arguments_is_quoted(spec: MachineSpec) -> None:
    with pytest.raises(MachineError) as caught:
        run(spec, "sys.exit('qemu: -x: invalid option')\n")
    assert caught.value.what == "QEMU refused to run: qemu: -x: invalid option"


def test_the_consoles_words_are_a_panics_only_with_its_event(spec: MachineSpec) -> None:
    words = b"Kernel panic - not syncing: printed by a test\n"
    with pytest.raises(MachineEndedError) as caught:
        run(spec, STARTED + f"os.write(console, {words!r}); os.kill(os.getpid(), 9)\n")
    assert caught.value.kind == "lost"


def test_the_console_is_kept_up_to_a_limit(
    spec: MachineSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_CONSOLE_BYTES", 1000)
    with pytest.raises(MachineEndedError):
        run(spec, READY + "os.write(console, b'x' * 5000); os.kill(os.getpid(), 9)\n")
    assert (tmp_path / "console.log").read_bytes() == b"x" * 1000


def test_a_qemu_that_is_not_there_is_a_missing_tool(spec: MachineSpec) -> None:
    async def start() -> None:
        async with machine.start(spec, Path(spec.qemu).with_name("console.log")):
            pass

    with pytest.raises(ToolMissingError, match="is not installed"):
        asyncio.run(start())


def test_a_cancelled_machine_is_gone(spec: MachineSpec, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    qemu = Path(spec.qemu)
    qemu.write_text(
        STAND_IN + f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "say('ready 6.1.0')\nsignal.pause()\n"
    )
    qemu.chmod(0o755)

    async def cancelled() -> None:
        async def job() -> None:
            async with machine.start(spec, tmp_path / "console.log") as guest:
                async for _ in guest.run(JOB):
                    pass

        task = asyncio.create_task(job())
        while not pid_file.exists() or not pid_file.read_text():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not Path(f"/proc/{pid_file.read_text()}").exists()

"""The heartbeat of a command in a pipe. The clock is a number, and a test waits for a line."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.console import LiveConsole
from bpfmatrix.cli.heartbeat import Heartbeat, beat
from tests.tool import plain_environment


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_is_due_when_nothing_was_printed_for_the_interval() -> None:
    clock = Clock()
    heart = Heartbeat(30, clock)
    heart.doing("console", "6.1", "boot waiting\nfor the guest")
    assert heart.due() == ("", 30)
    clock.now = 29
    assert heart.due() == ("", 1)
    clock.now = 30
    assert heart.due() == ("... still: 6.1 boot waiting for the guest, 30 s", 30)
    assert heart.due() == ("", 30)
    clock.now = 45
    heart.wrote()
    clock.now = 60
    assert heart.due() == ("", 15)
    clock.now = 75
    assert heart.due() == ("... still: 6.1 boot waiting for the guest, 75 s", 30)


def test_nothing_is_said_while_nothing_is_done() -> None:
    clock = Clock()
    heart = Heartbeat(30, clock)
    heart.doing("a", "6.1", "boot")
    heart.doing("b", "", "build")
    heart.done("a", "6.1")
    heart.done("a", "6.1")
    clock.now = 100
    assert heart.due() == ("... still: build, 100 s", 30)
    heart.clear("b")
    clock.now = 200
    assert heart.due() == ("", 30)


def test_a_line_names_some_of_many_kernels() -> None:
    clock = Clock()
    heart = Heartbeat(1, clock)
    for number in range(6):
        heart.doing("a", f"6.{number}", "boot")
    clock.now = 1
    assert heart.due()[0].endswith("6.3 boot, 1 s; and 2 more")


def test_lines_come_until_the_command_ends() -> None:
    heart = Heartbeat(0.01)
    heart.doing("a", "", "building")
    lines: list[str] = []
    stop = threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            stop.set()

    beat(heart, stop, say)
    assert lines == ["... still: building, 0 s"] * 2


def test_a_console_without_a_terminal_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    heart = Heartbeat(1, clock)
    for name in ("doing", "done", "clear"):
        monkeypatch.setattr(heartbeat, name, getattr(heart, name))
    console = LiveConsole(["6.1"])
    console.doing("6.1", "boot", "waiting for the guest")
    console.doing("", "watch", "waiting for a save")  # for the user, and not for long work
    clock.now = 1
    assert heart.due()[0].startswith("... still: 6.1 boot waiting for the guest, ")
    console.step("6.1", "boot", "warm template", "")
    clock.now = 2
    assert heart.due()[0] == ""
    console.doing("6.1", "test", "TestRing")
    with console:
        pass
    clock.now = 3
    assert heart.due()[0] == ""


PROGRAM = """
import sys, threading
from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.errors import exit_status_of

heartbeat._heart._interval = 0.01

def command():
    heartbeat.doing("a", "", "building")
    sys.stdin.read()

raise SystemExit(exit_status_of(command))
"""


def test_a_silent_command_in_a_pipe_is_heard(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env=plain_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    assert process.stdin
    with process:
        assert process.stderr.readline() == "... still: building, 0 s\n"
        process.stdin.close()
        process.stderr.read()
        assert process.wait(60) == 0

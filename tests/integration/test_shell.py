"""`invoke shell` at a terminal, as a person uses it, and with pipes, as a script uses it."""

import os
import random
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.kernels import KERNELS
from tests.terminal import Terminal
from tests.tool import ToolProject, plain_environment, qemus_of, wait_until

pytestmark = pytest.mark.integration

PROMPT = ":/payload# "


def at_terminal(project: ToolProject, *words: str, kernel: str = "6.1") -> Terminal:
    command = project.command("shell", "--kernel", kernel, *words)
    return Terminal(command, project.root, {**plain_environment(), "TERM": "xterm"}, (40, 100))


def piped(
    project: ToolProject, *words: str, given: bytes = b"", **more: Any
) -> "subprocess.CompletedProcess[bytes]":
    command = project.command("shell", "--kernel", "6.1", "--", *words)
    streams: Mapping[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(
        command,
        cwd=project.root,
        env=plain_environment(),
        input=given,
        timeout=120,
        check=False,
        **streams,
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_shell_at_a_terminal(project: ToolProject, kernel: str) -> None:
    project.configure(kernels=[kernel])
    with at_terminal(project, kernel=kernel) as terminal:
        before = terminal.mode
        release = terminal.expect(PROMPT, 120).split()[-1]
        assert terminal.mode != before
        terminal.type("uname -r; stty size; echo $TERM; cat /proc/self/mounts\n")
        said = terminal.expect(PROMPT).split("\r\n")
        assert said[1:4] == [release, "40 100", "xterm"]
        assert any(line.split()[1:3] == ["/sys/fs/bpf", "bpf"] for line in said[4:-1])
        assert any(line.split()[1:3] == ["/sys/kernel/tracing", "tracefs"] for line in said[4:-1])
        terminal.resize(50, 132)
        # The shell prints its prompt again when it gets SIGWINCH.
        terminal.type("until stty size | grep '50 132'; do sleep 0.1; done\n")
        terminal.expect("50 132\r\n")
        terminal.expect(PROMPT)
        # While a program runs, the shell reads no keys: the guest's terminal sends the signals.
        for key, then, status in (("\x03", "", 130), ("\x1a", "kill -KILL %1; fg", 137)):
            terminal.type("sh -c 'echo runs: $((6 * 7)); exec sleep 600'\n")
            terminal.expect("runs: 42\r\n")
            terminal.type(key)
            terminal.expect(PROMPT)
            terminal.type(f"S=$?; {then}\necho $S $?\n")
            terminal.expect(PROMPT)
            shown = terminal.expect(PROMPT)
            assert str(status) in shown, shown
        terminal.type("exit 7\n")
        assert terminal.end() == 7
        assert terminal.mode == before
    assert qemus_of(project) == []


def test_a_flood_can_be_interrupted_and_a_long_paste_arrives(project: ToolProject) -> None:
    with at_terminal(project) as terminal:
        terminal.expect(PROMPT, 120)
        terminal.type("yes\n")
        terminal.expect("y\r\ny\r\n")
        wait_until(terminal.is_full, "the flood waits for a reader")
        terminal.interrupt()
        terminal.expect("^C")
        terminal.expect(PROMPT)
        terminal.type("cat >/tmp/pasted\n")
        terminal.expect("cat >/tmp/pasted\r\n")
        terminal.type("a line of twenty-four c\n" * 500)
        terminal.type("\x04")
        terminal.expect(PROMPT)
        terminal.type("wc -c </tmp/pasted; exit\n")
        terminal.expect("exit\r\n12000\r\n")
        assert terminal.end() == 0


def test_a_command_at_a_terminal_has_a_terminal(project: ToolProject) -> None:
    with at_terminal(project, "--", "read -r line; tty; echo got $line; exit 3") as terminal:
        terminal.type("typed before the boot\n")
        terminal.expect("/dev/pts/0", 120)
        terminal.expect("got typed before the boot")
        assert terminal.end() == 3


def test_a_terminal_that_is_closed_ends_the_machine(project: ToolProject) -> None:
    with at_terminal(project) as terminal:
        terminal.expect(PROMPT, 120)
        assert len(qemus_of(project)) == 1
        terminal.close()
        wait_until(lambda: not qemus_of(project), "QEMU ended")
        assert terminal.process.wait(60) == 128 + signal.SIGHUP


def test_ctrl_bracket_three_times_ends_a_machine_that_does_not_answer(
    project: ToolProject,
) -> None:
    with at_terminal(project) as terminal:
        before = terminal.mode
        terminal.expect(PROMPT, 120)
        [qemu] = qemus_of(project)
        os.kill(qemu, signal.SIGSTOP)
        terminal.type("\x1d\x1d\x1d")
        assert terminal.end() == 128 + signal.SIGHUP
        assert terminal.mode == before
    assert qemus_of(project) == []


def test_a_command_has_the_callers_streams_and_returns_its_status(project: ToolProject) -> None:
    done = piped(project, "cat; echo wrong >&2; pwd; exit 3", given=b"hello\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"hello\n/payload\n", b"wrong\n")
    done = piped(project, "kill -TERM $$")
    assert done.returncode == 128 + signal.SIGTERM
    # Several words are a program and its arguments: no shell interprets them.
    done = piped(project, "printf", "%s|", "a b", "$HOME", "line\nbreak", "'\"")
    assert (done.returncode, done.stdout) == (0, b"a b|$HOME|line\nbreak|'\"|")
    assert piped(project, "no-such-program", "x").returncode == 127


def test_streams_are_passed_on_unchanged_and_in_order(project: ToolProject) -> None:
    given = random.Random(1).randbytes(3_000_000)
    assert piped(project, "cat", given=given).stdout == given
    done = piped(
        project, "for n in $(seq 100); do echo $n; echo $n >&2; done", stderr=subprocess.STDOUT
    )
    assert done.stdout.decode().split() == [str(n) for n in range(1, 101) for _ in range(2)]


def test_a_closed_standard_input_is_empty_for_the_command(project: ToolProject) -> None:
    words = project.command("shell", "--kernel", "6.1", "--", "cat; echo out; exit 4")
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *words],
        cwd=project.root,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (4, b"out\n")


def test_the_command_gets_sigpipe_when_the_reader_goes_away(project: ToolProject) -> None:
    shell = subprocess.Popen(
        project.command("shell", "--kernel", "6.1", "--", "yes"),
        cwd=project.root,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with shell:
        assert shell.stdout is not None
        assert shell.stdout.read(2) == b"y\n"
        shell.stdout.close()
        assert shell.wait(60) == 128 + signal.SIGPIPE
    assert qemus_of(project) == []


def test_ctrl_c_reaches_a_command_without_a_terminal(project: ToolProject) -> None:
    command = "trap 'echo caught; exit 5' INT; echo begins; while :; do sleep 0.1; done"
    shell = subprocess.Popen(
        project.command("shell", "--kernel", "6.1", "--", command),
        cwd=project.root,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    with shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"begins\n"
        os.kill(shell.pid, signal.SIGINT)
        assert shell.stdout.readline() == b"caught\n"
        assert shell.wait(60) == 5


def test_a_panic_after_some_output_is_reported(project: ToolProject) -> None:
    # What the guest wrote last may be lost in a panic, so it waits until the host has its output.
    command = "echo before; read -r line; echo c >/proc/sysrq-trigger; sleep 600"
    shell = subprocess.Popen(
        project.command("shell", "--kernel", "6.1", "--", command),
        cwd=project.root,
        env=plain_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"before\n"
        output, errors = shell.communicate(b"go on\n", timeout=120)
    assert (shell.returncode, output) == (255, b"")
    assert b"error: 6.1: panic: sysrq triggered crash\n" in errors
    assert b"Kernel panic - not syncing" in errors
    assert qemus_of(project) == []

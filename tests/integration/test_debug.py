"""gdb in a real kernel, with nothing but the names of its functions.

That needs none of the 280 MB of DWARF of Debian's kernel. Tests with source and lines are run by
`nox -s debug` and `nox -s kernel-build`.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.qemu_process import internet_sockets, is_filtered, named_sockets
from tests.terminal import Terminal
from tests.tool import ToolProject, plain_environment, qemus_of, wait_until

pytestmark = pytest.mark.integration

# The script's name goes behind.
DEBUG = ("debug", "--kernel", "6.1", "--binary")
BATCH = ("--batch", "backtrace")


def test_gdb_stops_at_the_given_function(tmp_path: Path) -> None:
    project = ToolProject(tmp_path / "a project's folder")
    project.configure()
    done = project.invoke(
        *(*DEBUG, project.script("opens", "cat /proc/version"), "--names"),
        *("--break", "version_proc_show", "--batch", "backtrace 2; print $rip"),
    )
    assert done.status == 0, done.output
    assert re.search(r"hit Breakpoint 1, .* in version_proc_show \(\)", done.output)
    assert re.search(r"#1 .* in seq_read_iter \(\)", done.output)
    # At the address of the symbol table, because of nokaslr.
    assert re.search(r"\$1 = .*0xffffffff81\w+ <version_proc_show", done.output)
    assert qemus_of(project) == []


def test_gdb_stops_at_a_panic(project: ToolProject) -> None:
    script = project.script("crashes", "echo c >/proc/sysrq-trigger; sleep 60")
    done = project.invoke(*DEBUG, script, "--names", *BATCH)
    assert "The kernel panics." in done.output
    assert re.search(r"#0 .* in panic \(\)\n#1 .* in sysrq_handle_crash", done.output)


def test_a_breakpoint_that_is_never_reached_is_an_error(project: ToolProject) -> None:
    done = project.invoke(*DEBUG, loads_nothing(project), "--names", *BATCH)
    assert done.status == 1
    assert "✓ quiet" in done.output
    assert "error: no breakpoint was reached (the verifier's entry): the tests ended" in done.output


def loads_nothing(project: ToolProject) -> str:
    """Write a test that never calls the verifier; return its name."""
    return project.script("quiet", "true")


def test_a_function_that_the_kernel_does_not_have_is_refused(project: ToolProject) -> None:
    words = (*DEBUG, loads_nothing(project), "--names", *BATCH)
    done = project.invoke(*words, "--break", "do_check_comon")
    assert done.status == 2
    assert 'error: --break do_check_comon: Function "do_check_comon" not defined' in done.output
    assert "This kernel has do_check_common" in done.output


def test_symbols_and_source_of_something_else_are_refused(project: ToolProject) -> None:
    subprocess.run(
        ["gcc", "-x", "c", "-", "-nostdlib", "-static", "-Wl,--build-id", "-o", "vmlinux"],
        cwd=project.root,
        input="void _start(void) {}",
        text=True,
        check=True,
    )
    words = (*DEBUG, loads_nothing(project), "--vmlinux", "vmlinux", *BATCH)
    done = project.invoke(*words)
    assert done.status == 2
    assert "error: vmlinux is of another build than the kernel that boots" in done.output
    done = project.invoke(*words, "--source", ".")
    assert done.status == 2
    assert "error: --source .: there is no kernel/bpf in it" in done.output


def test_a_port_that_is_in_use_is_refused(project: ToolProject) -> None:
    words = (*DEBUG, loads_nothing(project), "--names", *BATCH)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = project.invoke(*words, "--port", str(port))
    assert done.status == 2
    assert f"error: --port {port}: Address already in use" in done.output


def test_a_missing_gdb_is_named_with_its_package(project: ToolProject) -> None:
    env = {"PATH": without_gdb(project.root / "bin")}
    done = project.invoke(*DEBUG, loads_nothing(project), "--names", *BATCH, env=env)
    assert done.status == 1
    assert "is not installed" in done.output
    assert "Install gdb" in done.output


def without_gdb(folder: Path) -> str:
    """Make a folder with links to all programs but gdb."""
    folder.mkdir()
    for place in ("/bin", "/usr/bin", "/usr/sbin", *os.environ["PATH"].split(":")):
        for program in Path(place).glob("*"):
            if "gdb" not in program.name and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


def waiting(project: ToolProject, *words: str, **more: Any) -> tuple["Popen[str]", dict[str, Any]]:
    """Start a debug session that waits for a gdb; return its process and what it says about it."""
    script = project.script("opens", "cat /proc/version")
    process = project.start(*DEBUG, script, "--names", "--json-port", *words, **more)
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("{"))
    return process, json.loads(line)


def test_gdb_in_another_terminal(project: ToolProject) -> None:
    process, about = waiting(project, "--break", "version_proc_show")
    # The process is another program until it becomes QEMU.
    wait_until(lambda: qemus_of(project), "QEMU runs")
    [qemu] = qemus_of(project)
    assert about["port"] is None
    assert Path(about["socket"]).is_socket()
    assert stat.S_IMODE(Path(about["socket"]).parent.stat().st_mode) == 0o700
    monitor(about["socket"], "info status")
    assert internet_sockets(qemu) == []
    assert set(named_sockets(qemu)) == {about["socket"]}
    assert is_filtered(qemu)
    done = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-x", about["commands"], "-ex", "kill"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert "in version_proc_show ()" in done.stdout, done.stdout + done.stderr
    finished = project.finish(process)
    assert "lost: " in finished.output
    assert qemus_of(project) == []
    assert not Path(about["socket"]).parent.exists()


def test_the_command_for_another_terminal_is_that_of_the_socket(project: ToolProject) -> None:
    script = project.script("opens", "cat /proc/version")
    words = ("--names", "--attach-later", "--break", "version_proc_show")
    process = project.start(*DEBUG, script, *words)
    assert process.stdout is not None
    lines = iter(process.stdout)
    said = next(line for line in lines if line.startswith("waiting for gdb on "))
    path = said.removeprefix("waiting for gdb on ").partition(";")[0]
    assert Path(path).is_socket()
    command = shlex.split(next(lines))
    command += ["-nx", "-batch", "-ex", "kill"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert "in version_proc_show ()" in done.stdout, done.stdout + done.stderr
    assert project.finish(process).status == 0
    assert not Path(path).exists()


# What QEMU runs if its monitor is told so; with the whole of a shell, if nothing stops it.
SPAWN = 'migrate -d "exec:touch {}; cat >/dev/null"'


def test_a_port_is_opened_only_if_asked_for_and_starts_no_program(project: ToolProject) -> None:
    process, qemu, port = with_a_port(project)
    assert set(internet_sockets(qemu)) == {("127.0.0.1", port)}
    assert is_filtered(qemu)
    said = monitor(("127.0.0.1", port), SPAWN.format(project.root / "owned"))
    with contextlib.suppress(ConnectionError):
        monitor(("127.0.0.1", port), "quit")
    done = project.finish(process)
    # QEMU 7.2 is killed, and QEMU 10 is refused.
    killed = f"QEMU died of signal {int(signal.SIGSYS)}" in done.output
    assert killed or "Operation not permitted" in said
    assert not (project.root / "owned").exists()
    assert qemus_of(project) == []


def test_it_is_the_sandbox_that_keeps_a_port_from_starting_programs(project: ToolProject) -> None:
    project.configure(qemu={"extra_args": ["-sandbox", "off"]})
    process, _, port = with_a_port(project)
    monitor(("127.0.0.1", port), SPAWN.format(project.root / "owned"))
    wait_until((project.root / "owned").exists, "the shell ran")
    monitor(("127.0.0.1", port), "quit")
    project.finish(process)


def with_a_port(project: ToolProject) -> tuple["Popen[str]", int, int]:
    """Start a session with a TCP port; return its process, its QEMU's id, and the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process, about = waiting(project, "--port", str(port))
    assert (about["port"], about["socket"]) == (port, None)
    # The process is another program until it becomes QEMU.
    wait_until(lambda: qemus_of(project), "QEMU runs")
    [qemu] = qemus_of(project)
    monitor(("127.0.0.1", port), "info status")  # QEMU has set itself up
    return process, qemu, port


def test_what_a_port_exposes_is_said(project: ToolProject) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = (*DEBUG, loads_nothing(project), "--names", *BATCH)
    done = project.invoke(*words, "--port", port)
    assert f"gdb's port is 127.0.0.1:{port}: any user of this host" in done.output
    done = project.invoke(*words, "--port", port, "--vscode")
    assert f"uses port {port} of 127.0.0.1, as the editor needs one: any user" in done.output
    assert "127.0.0.1" not in project.invoke(*words).output


def monitor(address: str | tuple[str, int], command: str) -> str:
    """Send one command to QEMU's monitor through its gdb stub, and return what it prints."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    packet = f"qRcmd,{command.encode().hex()}".encode()
    with socket.socket(family) as stub:
        stub.settimeout(60)
        stub.connect(address)
        stub.sendall(b"$" + packet + b"#%02x" % (sum(packet) & 0xFF))
        answer = b""
        while b"$OK#9a" not in answer:
            # QEMU is killed before it answers, or the monitor's output goes on.
            try:
                received = stub.recv(4096)
            except ConnectionResetError:
                break
            if not received:
                break
            answer += received
            stub.sendall(b"+" * received.count(b"#"))
    printed = re.findall(rb"\$O((?:[0-9a-f]{2})+)#", answer)
    return "".join(bytes.fromhex(text.decode()).decode(errors="replace") for text in printed)


def heeds_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_session_that_is_ended_leaves_no_socket(
    project: ToolProject, number: signal.Signals, tmp_path: Path
) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    process, about = waiting(project, env=env, preexec_fn=heeds_interrupts)
    assert Path(about["socket"]).parent.parent == tmp_path
    process.send_signal(number)
    done = project.finish(process)
    assert done.status == 128 + number
    assert "Traceback" not in done.output
    assert not list(tmp_path.glob("bpfmatrix-*"))
    assert qemus_of(project) == []


def test_what_a_killed_session_leaves_is_of_no_use(project: ToolProject, tmp_path: Path) -> None:
    process, about = waiting(project, env={"XDG_RUNTIME_DIR": str(tmp_path)})
    process.kill()
    project.finish(process)
    wait_until(lambda: not qemus_of(project), "QEMU ended")
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(about["socket"])
    done = project.invoke(
        *(*DEBUG, loads_nothing(project), "--names", *BATCH), env={"XDG_RUNTIME_DIR": str(tmp_path)}
    )
    assert "the tests ended" in done.output


def test_a_terminal_that_is_closed_ends_gdb_and_the_machine(project: ToolProject) -> None:
    script = project.script("opens", "cat /proc/version")
    command = project.command(*DEBUG, script, "--names", "--break", "version_proc_show")
    with Terminal(command, project.root, {**plain_environment(), "TERM": "dumb"}) as terminal:
        terminal.expect("in version_proc_show ()", 120)
        assert len(qemus_of(project)) == 1
        terminal.type("echo still here\\n\n")
        terminal.expect("still here\r\n")
        terminal.close()
        wait_until(lambda: not qemus_of(project), "QEMU ended")
        terminal.process.wait(60)

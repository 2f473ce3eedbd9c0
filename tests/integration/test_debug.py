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
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tests.integration.rejected_object import compile_rejected
from tests.qemu_process import internet_sockets, is_filtered, named_sockets
from tests.terminal import Terminal
from tests.tool import Finished, ToolProject, plain_environment, qemus_of, wait_until

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
    assert re.search(r"^boot +warm", done.output, re.M)
    assert re.search(r"hit Breakpoint 1, .* in version_proc_show \(\)", done.output)
    assert re.search(r"#1 .* in seq_read_iter \(\)", done.output)
    # At the address of the symbol table, because of nokaslr.
    assert re.search(r"\$1 = .*0xffffffff81\w+ <version_proc_show", done.output)
    assert qemus_of(project) == []


def test_a_function_that_only_runs_while_the_kernel_boots(project: ToolProject) -> None:
    words = (*DEBUG, loads_nothing(project), "--names", *BATCH)
    done = project.invoke(*words, "--break", "start_kernel")
    assert done.status == 0, done.output
    assert "cold (start_kernel runs only while the kernel boots)" in done.output
    assert re.search(r"#0 .* in start_kernel \(\)", done.output)


def test_gdb_stops_at_a_panic(project: ToolProject) -> None:
    script = project.script("crashes", "echo c >/proc/sysrq-trigger; sleep 60")
    done = project.invoke(*DEBUG, script, "--names", "--batch", "backtrace; continue")
    assert "The kernel panics." in done.output
    assert re.search(r"#0 .* in panic \(\)\n#1 .* in sysrq_handle_crash", done.output)
    # It goes on, and so the machine ends.
    assert "panic: sysrq triggered crash after " in done.output
    assert done.status == 1
    assert "error: --batch: gdb could not run `continue`: the machine has ended" in done.output
    assert ends_in_a_sentence(done)


def ends_in_a_sentence(done: Finished) -> bool:
    """Whether there is neither a traceback nor an error of gdb."""
    words = ("Traceback", "Cannot execute this command", "Error while executing", "Exception")
    return not any(word in done.output for word in words)


def test_a_breakpoint_that_is_never_reached_is_an_error(project: ToolProject) -> None:
    words = ("--batch", "backtrace 3; list")
    done = project.invoke(*DEBUG, loads_nothing(project), "--names", *words)
    assert done.status == 1
    assert "✓ quiet" in done.output
    assert (
        "error: no breakpoint was reached (the verifier's entry): the tests ended; the commands of "
        "--batch were not run\n" in done.output
    )
    assert ends_in_a_sentence(done)


def test_the_commands_of_a_batch_are_run_while_the_guest_is_stopped(project: ToolProject) -> None:
    script = project.script("opens", "cat /proc/version")
    done = project.invoke(
        *(*DEBUG, script, "--names", "--break", "version_proc_show"),
        *("--batch", "nonsense; delete; continue; print 6 * 7; kill; print 1; list"),
    )
    # A command that gdb does not know is passed over, and the tests end while gdb waits.
    assert "✓ opens" in done.output
    assert re.search(r"the tests ended after \d+ s: the guest is stopped\n", done.output)
    assert "$1 = 42\n" in done.output
    assert done.status == 1
    assert (
        'error: --batch: gdb could not run `nonsense`: Undefined command: "nonsense".  Try "help", '
        "and there was no stopped guest any more; not run: `print 1; list`\n" in done.output
    )
    assert ends_in_a_sentence(done)
    assert qemus_of(project) == []


def test_ctrl_c_before_there_is_a_machine(project: ToolProject) -> None:
    words = (*DEBUG, loads_nothing(project), "--names", *BATCH)
    process = project.start(*words, start_new_session=True, preexec_fn=heeds_interrupts)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("kernel "))
    os.killpg(process.pid, signal.SIGINT)
    done = project.finish(process)
    assert done.status == 130
    assert done.output.endswith("interrupted\n")
    assert ends_in_a_sentence(done)


@pytest.mark.parametrize("send", [os.kill, os.killpg])
def test_ctrl_c_in_a_batch(project: ToolProject, send: Callable[[int, int], None]) -> None:
    script = project.script("opens", "cat /proc/version; sleep 600")
    words = (*DEBUG, script, "--names", "--break", "version_proc_show", "--batch", "continue")
    process = project.start(*words, start_new_session=True, preexec_fn=heeds_interrupts)
    wait_until((project.root / ".bpfmatrix/debug/6.1/stopped").exists, "gdb stopped")
    send(process.pid, signal.SIGINT)
    done = project.finish(process)
    assert done.status == 130
    assert done.output.endswith("interrupted\n")
    assert ends_in_a_sentence(done)
    assert qemus_of(project) == []


def debugger_of(process: "Popen[bytes]") -> int:
    """Return the id of the gdb that a session has started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (found,) = (n for n in children if "gdb" in Path(f"/proc/{n}/comm").read_text())
    return int(found)


def session(project: ToolProject, *words: str) -> Terminal:
    """Start a session on a terminal, with a test that opens a file and then goes on."""
    script = project.script("opens", "cat /proc/version; sleep 1")
    command = project.command(*DEBUG, script, "--names", *words)
    return Terminal(command, project.root, {**plain_environment(), "TERM": "dumb"})


def test_a_person_stops_the_guest_and_has_the_prompt_when_the_tests_end(
    project: ToolProject,
) -> None:
    with session(project, "--cold") as terminal:
        console = project.root / ".bpfmatrix/debug/6.1/console.log"
        wait_until(lambda: console.exists() and console.stat().st_size, "the kernel boots")
        terminal.interrupt()
        terminal.interrupt()
        terminal.expect("(gdb) ")
        terminal.type("continue\n")
        terminal.expect("the tests ended after ", 120)
        terminal.expect(", and no breakpoint was reached: the guest is stopped, `quit` ends it")
        terminal.expect("(gdb) ")
        terminal.type("print 6 * 7\n")
        terminal.expect("$1 = 42")
        for qemu in qemus_of(project):
            os.kill(qemu, signal.SIGKILL)
        terminal.type("quit\n")
        assert terminal.end() == 0
    assert "Traceback" not in terminal.transcript


def test_a_machine_that_ends_under_a_person(project: ToolProject) -> None:
    with session(project, "--break", "version_proc_show") as terminal:
        terminal.expect("in version_proc_show ()", 120)
        terminal.expect("(gdb) ")
        terminal.type("kill\n")
        terminal.expect("lost: gdb ended the machine after ")
        terminal.expect(": `quit` ends gdb")
        terminal.type("quit\n")
        assert terminal.end() == 0


def test_a_gdb_that_is_killed_ends_the_machine(project: ToolProject) -> None:
    with session(project, "--break", "version_proc_show") as terminal:
        terminal.expect("in version_proc_show ()", 120)
        terminal.expect("(gdb) ")
        os.kill(debugger_of(terminal.process), signal.SIGKILL)
        assert terminal.end() == 1
    assert "error: gdb was ended by SIGKILL" in terminal.transcript
    assert qemus_of(project) == []


@pytest.fixture
def rejected(project: ToolProject) -> str:
    """Compile the object of `rejected_object`; return its name."""
    return compile_rejected(project)


@pytest.mark.parametrize("loader", ["libbpf", "cilium-ebpf"])
def test_a_program_of_an_object(project: ToolProject, rejected: str, loader: str) -> None:
    done = project.invoke(
        *("debug", "--kernel", "6.1", "--object", rejected, "--program", "on_connect", "--names"),
        *("--loader", loader, "--batch", "backtrace 1; continue; continue"),
    )
    # Not at the programs that the loader loads first, to probe the kernel; libbpf's have names.
    assert re.search(r"hit Breakpoint 1, 0x\w+ in do_check_common \(\)\n#0 ", done.output)
    # It is loaded again for the verifier's log.
    assert done.output.count("hit Breakpoint 1") == 2, done.output
    assert re.search(rf"✗ on_connect +{loader}, failed: R0 invalid mem access", done.output)
    assert "agent.bpf.c:18  *count += 1;" in done.output
    assert "full verifier log  .bpfmatrix/debug/6.1/" in done.output
    assert "the loader ended after " in done.output
    assert done.status == 0
    assert ends_in_a_sentence(done)


def test_an_object_whose_programs_never_come_to_the_breakpoint(
    project: ToolProject, rejected: str
) -> None:
    path = project.root / "kernels.yaml"
    path.write_text(path.read_text() + f"verify: {{objects: [{{path: {rejected}}}]}}\n")
    # Of a project without tests, the objects are loaded.
    words = ("debug", "--kernel", "6.1", "--names", "--break", "version_proc_show", *BATCH)
    done = project.invoke(*words)
    assert done.status == 1
    assert "✓ on_exit" in done.output
    assert "✗ on_connect" in done.output
    assert "error: no breakpoint was reached (version_proc_show): the loader ended" in done.output


def test_objects_and_tests_are_told_apart(project: ToolProject, rejected: str) -> None:
    debug = ("debug", "--kernel", "6.1", "--object", rejected)
    done = project.invoke(*debug, "--run", "TestX")
    assert (done.status, "error: --object and --run don't go together" in done.output) == (2, True)
    done = project.invoke(*debug, "--program", "on_conect")
    assert done.status == 2
    assert 'no object has such a program (did you mean "on_connect"?)' in done.output
    assert "The programs are on_connect, on_exit." in done.output
    done = project.invoke("debug", "--kernel", "6.1", "--object", "agnt.bpf.o")
    assert (done.status, "error: agnt.bpf.o: no such file" in done.output) == (2, True)


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

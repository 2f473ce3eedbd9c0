"""gdb in a real kernel, with nothing but the names of its functions.

That needs none of the 280 MB of DWARF of Debian's kernel. Tests with source and lines are run by
`nox -s debug` and `nox -s kernel-build`.
"""

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

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
    assert "error: no breakpoint was reached (do_check_common): the tests ended" in done.output


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


def test_gdb_in_another_terminal(project: ToolProject) -> None:
    script = project.script("opens", "cat /proc/version")
    process = project.start(
        *DEBUG, script, "--names", "--json-port", "--break", "version_proc_show"
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("{"))
    about = json.loads(line)
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

"""gdb in a real kernel. Of Debian's kernel these tests take the functions' names alone, which needs
no 280 MB of DWARF: those with source and lines are `nox -s debug` and `nox -s kernel-build`.
"""

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.tool import ToolProject, plain_environment, qemus_of, wait_until

pytestmark = pytest.mark.integration

LOADS_NOTHING = "true"
CRASHES = "echo c >/proc/sysrq-trigger; sleep 60"


def test_gdb_stops_where_it_was_asked_to(tmp_path: Path) -> None:
    project = ToolProject(tmp_path / "a project's folder")
    project.configure()
    script = project.script("opens", "cat /proc/version")
    done = project.invoke(
        *(
            "debug",
            "--kernel",
            "6.1",
            "--names",
            "--binary",
            script,
            "--break",
            "version_proc_show",
        ),
        *("--batch", "backtrace 2; print $rip"),
    )
    assert done.status == 0, done.output
    assert re.search(r"hit Breakpoint 1, .* in version_proc_show \(\)", done.output)
    assert re.search(r"#1 .* in seq_read_iter \(\)", done.output)
    # Where the symbols say that it lies: nokaslr.
    assert re.search(r"\$1 = .*0xffffffff81\w+ <version_proc_show", done.output)
    assert qemus_of(project) == []


def test_a_panic_stops_in_gdb(project: ToolProject) -> None:
    script = project.script("crashes", CRASHES)
    done = project.invoke(
        *("debug", "--kernel", "6.1", "--names", "--binary", script, "--batch", "backtrace")
    )
    assert "The kernel panics." in done.output
    assert re.search(r"#0 .* in panic \(\)\n#1 .* in sysrq_handle_crash", done.output)


def test_a_breakpoint_that_nothing_comes_to(project: ToolProject) -> None:
    script = project.script("quiet", LOADS_NOTHING)
    done = project.invoke(
        *("debug", "--kernel", "6.1", "--names", "--binary", script, "--batch", "backtrace")
    )
    assert done.status == 1
    assert "✓ quiet" in done.output
    assert "error: no breakpoint was reached (do_check_common): the tests ended" in done.output


def test_what_can_be_told_before_the_machine_is_started(project: ToolProject) -> None:
    script = project.script("quiet", LOADS_NOTHING)
    words = ("debug", "--kernel", "6.1", "--binary", script, "--batch", "backtrace")
    done = project.invoke(*words, "--names", "--break", "do_check_comon")
    assert done.status == 2
    assert 'error: --break do_check_comon: Function "do_check_comon" not defined' in done.output
    assert "This kernel has do_check_common" in done.output

    other = project.root / "vmlinux"
    subprocess.run(
        ["gcc", "-x", "c", "-", "-nostdlib", "-static", "-Wl,--build-id", "-o", other],
        input="void _start(void) {}",
        text=True,
        check=True,
    )
    done = project.invoke(*words, "--vmlinux", "vmlinux")
    assert done.status == 2
    assert "error: vmlinux is of another build than the kernel that boots" in done.output

    done = project.invoke(*words, "--source", ".", "--vmlinux", "vmlinux")
    assert "error: --source .: there is no kernel/bpf in it" in done.output

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = project.invoke(*words, "--names", "--port", str(port))
    assert done.status == 2
    assert f"error: --port {port}: Address already in use" in done.output

    # A machine without gdb: what stands beside Python is looked at first, then PATH.
    done = project.invoke(*words, "--names", env={"PATH": without_gdb(project.root / "bin")})
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
        *("debug", "--kernel", "6.1", "--names", "--binary", script, "--json-port"),
        *("--break", "version_proc_show"),
    )
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("{"))
    about = json.loads(line)
    done = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", "-x", about["commands"], "-ex", "kill"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "in version_proc_show ()" in done.stdout, done.stdout + done.stderr
    finished = project.finish(process)
    assert "lost: " in finished.output
    assert qemus_of(project) == []


def test_the_terminal_is_closed(project: ToolProject) -> None:
    script = project.script("opens", "cat /proc/version")
    words = ("debug", "--kernel", "6.1", "--names", "--binary", script)
    pid, terminal = pty.fork()
    if pid == 0:  # the child, which must not come back into pytest
        try:
            os.chdir(project.root)
            command = project.command(*words, "--break", "version_proc_show")
            os.execve(command[0], command, plain_environment() | {"TERM": "dumb"})
        finally:
            os._exit(70)
    try:
        read_until(terminal, b"in version_proc_show ()")
        assert qemus_of(project)
        os.write(terminal, b"echo still here\\n\n")
        read_until(terminal, b"still here\r\n")
        os.close(terminal)
        wait_until(lambda: not qemus_of(project), "QEMU ended")
        os.waitpid(pid, 0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def read_until(terminal: int, wanted: bytes, seconds: float = 90.0) -> bytes:
    said, end = b"", time.monotonic() + seconds
    while wanted not in said:
        ready, _, _ = select.select([terminal], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"{wanted!r} never came: {said.decode(errors='replace')}"
        said += os.read(terminal, 1 << 16)
    return said

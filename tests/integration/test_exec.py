"""`bpfmatrix exec`: a test runner of another project starts it, and its command runs in a guest."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kernels import KERNELS
from tests.processes import Watched
from tests.tool import ToolProject, plain_environment, wait_until

pytestmark = pytest.mark.integration

# A runner that starts the commands of its arguments, and then lives until its input ends.
RUNNER = """
import subprocess, sys
words = sys.argv[1:]
for _ in range(2):
    subprocess.run(words, check=True)
print("ran", flush=True)
sys.stdin.read()
"""


def words_of(*words: str, kernel: str = "6.1") -> list[str]:
    return [sys.executable, "-m", "bpfmatrix", "exec", "--kernel", kernel, *words]


def run(
    project: ToolProject,
    *words: str,
    given: bytes = b"",
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    kernel: str = "6.1",
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        words_of(*words, kernel=kernel),
        cwd=folder or project.root,
        env={**plain_environment(), **(env or {})},
        input=given,
        capture_output=True,
        timeout=600,
        check=False,
    )


def processes_with(variable: str) -> list[int]:
    """Return the processes that have this variable in their environment, but not pytest."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended meanwhile
            continue
        if variable.encode() in environment:
            found.append(int(process.name))
    return found


@contextmanager
def started(
    words: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, **more: Any
) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        words,
        cwd=folder,
        env={**plain_environment(), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_command_behaves_as_on_the_host(project: ToolProject, kernel: str) -> None:
    project.configure([kernel])
    folder = project.root / "a folder"
    folder.mkdir()
    script = folder / "script"
    script.write_text(
        """#!/bin/bash
        read -r line; rest=$(cat)
        echo "line: $line, rest: $rest, words: $*"
        echo "in $PWD on $(uname -r), $FROM_THE_RUNNER, $SOME_TOKEN, $OTHER_TOKEN"
        echo "to standard error" >&2
        echo "$ODD" >&2
        exit 42
        """
    )
    script.chmod(0o755)
    done = run(
        project,
        *("--env", "SOME_TOKEN", "./script", "--kernel", "a  b", "$HOME", "", "\n", "--", "-x"),
        given=b"first\nsecond\nthird",
        folder=folder,
        env={
            "FROM_THE_RUNNER": "passed on",
            "SOME_TOKEN": "asked for",
            "OTHER_TOKEN": "a secret",
            "ODD": "a\n'b' \"c\" $d",
        },
        kernel=kernel,
    )
    assert done.returncode == 42, done.stderr
    *lines, said = done.stdout.decode().splitlines()
    assert lines == [
        "line: first, rest: second",
        "third, words: --kernel a  b $HOME  ",
        " -- -x",
    ]
    assert said.startswith(f"in {folder} on {kernel}."), said
    assert said.endswith(", passed on, asked for, "), said
    assert done.stderr == b"to standard error\na\n'b' \"c\" $d\n"


def test_what_is_no_status_of_the_command(project: ToolProject) -> None:
    by_signal = run(project, "sh", "-c", "kill -KILL $$")
    assert (by_signal.returncode, by_signal.stdout, by_signal.stderr) == (137, b"", b"")
    missing = run(project, "./no-such-program")
    assert missing.returncode == 127
    unknown = run(project, "--kernle", "6.1", "true")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith(b"error: bpfmatrix exec: --kernle: no such option (did you")
    panic = run(project, "sh", "-c", "echo before; echo c >/proc/sysrq-trigger; sleep 600")
    assert (panic.returncode, panic.stdout) == (255, b"before\n")
    assert panic.stderr.startswith(b"error: 6.1: panic: ")


def test_files_below_a_writable_share_are_written_on_the_host(project: ToolProject) -> None:
    kept, given = project.root / "kept", project.root / "given"
    for folder in (kept, given):
        folder.mkdir()
    command = "echo from $(uname -s) >new; echo gone >../kept/new; rm script; cat new ../kept/new"
    (given / "script").write_text(command)
    done = run(project, "--share", f"{given}:rw", "sh", "./script", folder=given)
    assert (done.returncode, done.stdout) == (0, b"from Linux\ngone\n"), done.stderr
    assert [path.name for path in given.iterdir()] == ["new"]
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_the_command(project: ToolProject, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got {name}; exit 7' {name}; echo ready; while :; do sleep 0.1; done"
    with started(words_of("bash", "-c", script), project.root) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == f"got {name}\n"
        assert process.wait(600) == 7


def test_a_signal_while_the_guest_is_made_ends_the_call(
    project: ToolProject, own_cache: Path
) -> None:
    # The cache has no template, so this boots the kernel.
    env = {"BPFMATRIX_CACHE": str(own_cache), "OF_THIS_TEST": str(own_cache)}
    errors = project.root / "errors"
    with (
        errors.open("w") as file,
        started(words_of("--cold", "true"), project.root, env, stderr=file) as process,
    ):
        wait_until(lambda: any(map(_is_qemu, _of(own_cache))), "a guest is made", 600)
        (watched,) = (Watched(pid) for pid in _of(own_cache) if _is_qemu(pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(600) == 128 + signal.SIGTERM
        assert watched.ends_within(600)


def _of(cache: Path) -> list[int]:
    return processes_with(f"OF_THIS_TEST={cache}")


def _is_qemu(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().startswith("qemu-system")
    except OSError:
        return False


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_the_keeper_and_its_guests_end_with_the_runner(
    project: ToolProject, tmp_path: Path, end: str
) -> None:
    env = {"OF_THIS_TEST": str(tmp_path)}
    words = [sys.executable, "-c", RUNNER, *words_of("true")]
    with started(words, project.root, env) as runner:
        assert runner.stdout
        assert runner.stdout.readline() == "ran\n"
        left = [pid for pid in _of(tmp_path) if pid != runner.pid]
        names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
        assert sum(b"bpfmatrix.cli.keeper" in name for name in names) == 1
        watched = [Watched(pid) for pid in left]
        if end == "ends":
            runner.communicate()
        else:
            runner.kill()
        for process in watched:
            assert process.ends_within(60)
    assert _of(tmp_path) == []


def test_a_client_that_is_killed_ends_its_guest(project: ToolProject, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    script = f"cd {folder}; : >file; echo ready; while :; do echo x >>file; sleep 0.1; done"
    with started(words_of("--share", f"{folder}:rw", "sh", "-c", script), project.root) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.kill()
        # The keeper closes the stream when the guest has ended.
        assert process.stdout.read() == ""
    size = (folder / "file").stat().st_size
    # Another guest comes up and ends in the meantime.
    assert run(project, "true").returncode == 0
    assert (folder / "file").stat().st_size == size


def test_go_test_runs_the_packages_of_a_module_in_guests(project: ToolProject) -> None:
    root = project.root
    (root / "go.mod").write_text("module example.com/m\n\ngo 1.21\n")
    for name in ("one", "two"):
        (root / name / "testdata").mkdir(parents=True)
        (root / name / "testdata" / "file").write_text(f"of {name}")
        (root / name / "x_test.go").write_text(
            f"""package {name}

import (
	"os"
	"testing"
)

func TestHere(t *testing.T) {{
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {{
		t.Fatal(err)
	}}
	data, err := os.ReadFile("testdata/file")
	if err != nil {{
		t.Fatal(err)
	}}
	t.Logf("%s on %s", data, release)
	if os.Getenv("FAIL") == "{name}" {{
		t.Error("as asked")
	}}
}}
"""
        )
    command = " ".join(words_of())
    go = ["go", "test", "-count=1", "-v", "-exec", command, "./..."]
    with started(go, root, {"FAIL": "two", "OF_THIS_TEST": str(root)}) as process:
        assert process.stdout
        said = process.stdout.read()
        assert process.wait(600) == 1
    assert "of one on 6.1." in said
    assert "of two on 6.1." in said
    assert "ok  \texample.com/m/one" in said
    assert "FAIL\texample.com/m/two" in said
    wait_until(lambda: not _of(root), "the keeper has ended with go", 600)


def test_the_task_of_invoke_does_the_same(project: ToolProject) -> None:
    done = project.invoke("exec", "--kernel", "6.1", "--env", "A=b c", "--", "sh", "-c", "echo $A")
    assert (done.status, done.output) == (0, "b c\n")


def test_a_reader_that_leaves_ends_the_command_as_on_the_host(project: ToolProject) -> None:
    words = words_of("sh", "-c", "yes; echo $? >&2")
    with started(words, project.root, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "y\n"
        process.stdout.close()
        assert process.stderr.read() == f"{128 + signal.SIGPIPE}\n"
        assert process.wait(600) == 0


def test_a_keeper_that_is_killed_takes_its_guests_with_it(
    project: ToolProject, tmp_path: Path
) -> None:
    env = {"OF_THIS_TEST": str(tmp_path)}
    # A runner of its own, since the keeper is that of all tests of this process otherwise.
    alone = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    command = words_of("sh", "-c", "echo ready; sleep 600")
    words = [sys.executable, "-c", alone, *command]
    with started(words, project.root, env, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "ready\n"
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in _of(tmp_path)}
        (keeper,) = (pid for pid, words in commands.items() if b"bpfmatrix.cli.keeper" in words)
        watched = [Watched(pid) for pid in commands if _is_qemu(pid)]
        assert watched
        os.kill(keeper, signal.SIGKILL)
        said = process.stderr.read()
        assert said == "error: the keeper of the guests ended before the command did\n"
        assert process.wait(600) == 255
        assert all(one.ends_within(60) for one in watched)


def test_a_folder_that_is_gone_is_said(project: ToolProject, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", *words_of("true")]
    with started(command, gone, stderr=subprocess.PIPE) as process:
        assert process.stderr
        assert process.stderr.read().startswith("error: the working directory can't be used: ")
        assert process.wait(600) == 1

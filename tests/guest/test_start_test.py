"""start-test, the guest's program that starts each command, run on the host without any right."""

import os
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.guest import programs


@pytest.fixture(scope="module")
def start_test(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program as a file."""
    path = tmp_path_factory.mktemp("program") / "start-test"
    [source] = [source for source in programs.sources() if source.stem == path.name]
    programs.compile_program(source, os.uname().machine, path)
    return path


def run(*words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with these variables beside PATH."""
    return subprocess.run(
        [str(word) for word in words],
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_runs_in_its_folder_as_the_leader_of_a_session(
    start_test: Path, tmp_path: Path
) -> None:
    script = 'echo "$PWD $(pwd -P) $A"; [ "$(ps -o sid= $$)" -eq $$ ]'
    done = run(start_test, "folder", tmp_path, "--", "sh", "-c", script, PWD="/stale", A="b c")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path} {tmp_path} b c\n")


def test_a_folder_that_is_not_there_is_replaced_by_the_root(start_test: Path) -> None:
    assert run(start_test, "folder", "/no/such", "--", "pwd").stdout == "/\n"


def test_a_command_has_variables_of_its_own(start_test: Path) -> None:
    words = ("env", "A=b  c", "env", "NEW=x=y", "env", "PATH=/usr/bin:/bin", "env", "A=last")
    script = 'echo "$A|$NEW|$AB"; env | grep -c ^A='
    done = run(start_test, *words, "--", "sh", "-c", script, A="old", AB="other")
    assert done.stdout == "last|x=y|other\n1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_its_own_variables_win_over_those_of_the_user(start_test: Path) -> None:
    words = ("env", "HOME=/own", "user", "nobody", "--", "sh", "-c", 'echo "$HOME $USER"')
    assert run(start_test, *words, HOME="/root").stdout == "/own nobody\n"


def test_a_resource_limit_is_set(start_test: Path) -> None:
    done = run(start_test, "limit", "7", "100", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn")
    assert done.stdout == "100\n100\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["no-such-command"], 127, "no-such-command: not found\n"),
        (["/no/such/command"], 127, "/no/such/command: not found\n"),
        (["/etc/passwd"], 126, "/etc/passwd: it can't be executed: no permission\n"),
        ([], 126, "start-test: no command\n"),
    ],
)
def test_what_can_not_be_executed_is_told_as_a_shell_does(
    start_test: Path, words: list[str], status: int, said: str
) -> None:
    done = run(start_test, "--", *words)
    assert (done.returncode, done.stderr) == (status, said)


def test_an_unknown_word_is_refused(start_test: Path) -> None:
    done = run(start_test, "nonsense", "--", "true")
    assert (done.returncode, done.stderr) == (126, "nonsense: start-test does not know this word\n")


def test_a_script_without_an_interpreter_is_one_for_sh(start_test: Path, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$1,$2"\n')
    script.chmod(0o755)
    assert run(start_test, "--", script, "a b", "c").stdout == "a b,c\n"


def test_the_command_is_looked_up_in_each_folder_of_the_path(
    start_test: Path, tmp_path: Path
) -> None:
    script = tmp_path / "there"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    assert run(start_test, "--", "there", PATH=f"/no/such::{tmp_path}").stdout == "found\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_has_the_capabilities_that_are_asked_for(start_test: Path) -> None:
    words = ("capabilities", "1002", "user", "nobody", "--", "sh", "-c")
    done = run(start_test, *words, 'id -u; id -g; echo "$USER"; grep Cap /proc/self/status')
    uid, gid, name, *sets = done.stdout.split("\n")
    assert (uid, gid, name) == ("65534", "65534", "nobody")
    assert {line.split(":\t")[1] for line in sets if line} == {f"{0x1002:016x}"}

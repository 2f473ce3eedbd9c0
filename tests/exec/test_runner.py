"""Which process is the test runner of a client."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = (
    "import os\n"
    "from bpfmatrix.exec.runner import runner_of_this_process as runner\n"
    "found = runner()\n"
    "print('itself' if found.is_this_process else found.pid, flush=True)\n"
)


@pytest.fixture
def client(tmp_path: Path) -> str:
    """Return a command line of a shell that prints the runner of a client."""
    path = tmp_path / "client.py"
    path.write_text(CLIENT)
    return f"{sys.executable} {path}"


def said(*words: str, session: bool = False) -> str:
    done = subprocess.run(
        words, stdout=subprocess.PIPE, text=True, check=True, start_new_session=session
    )
    return done.stdout


def test_the_parent_is_the_runner(client: str) -> None:
    assert said(*client.split()) == f"{os.getpid()}\n"


def test_a_runner_may_give_each_test_a_session(client: str) -> None:
    assert said(*client.split(), session=True) == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    "wrapper", [("sh", "-c"), ("sh", "-c", 'sh -c "$0"; :'), ("env", "sh", "-c")]
)
def test_a_script_between_them_is_not_the_runner(client: str, wrapper: tuple[str, ...]) -> None:
    # A further command, since a shell may execute its last command in its own process.
    assert said(*wrapper, f"{client}; :") == f"{os.getpid()}\n"


def test_what_an_interactive_shell_starts_is_its_own_runner(client: str) -> None:
    ours, its = pty.openpty()
    with subprocess.Popen(
        ["bash", "--norc", "-i", "-c", f"{client}; :"],
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=its,
        start_new_session=True,
        text=True,
    ) as shell:
        assert shell.stdout
        assert shell.stdout.read() == "itself\n"
    os.close(its)
    os.close(ours)


def test_a_script_that_an_interactive_shell_starts_is_the_runner(
    client: str, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text(f"echo $$\n{client}\n{client}\n:\n")
    ours, its = pty.openpty()
    with subprocess.Popen(
        ["bash", "--norc", "-i", "-c", f"sh {script}; :"],
        stdin=its,
        stdout=subprocess.PIPE,
        stderr=its,
        start_new_session=True,
        text=True,
    ) as shell:
        assert shell.stdout
        pid, first, second = shell.stdout.read().split()
    os.close(its)
    os.close(ours)
    assert first == second == pid

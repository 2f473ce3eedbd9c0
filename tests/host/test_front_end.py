"""What messages name as the command to type next, by what the user has typed before."""

import sys
from pathlib import Path

import pytest

import bpfmatrix
from bpfmatrix.host import front_end
from bpfmatrix.host.front_end import FrontEnd, form, has_sessions, has_tasks

OURS = Path(bpfmatrix.__file__).parent


@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ("/opt/venv/bin/nox", FrontEnd.NOX),
        ("/opt/venv/lib/python3.11/site-packages/nox/__main__.py", FrontEnd.NOX),
        ("/opt/venv/bin/invoke", FrontEnd.INVOKE),
        ("/opt/venv/bin/inv", FrontEnd.INVOKE),
        ("/opt/venv/lib/python3.11/site-packages/invoke/__main__.py", FrontEnd.INVOKE),
        ("/home/a/.local/bin/bpfmatrix", FrontEnd.BPFMATRIX),
        (str(OURS / "__main__.py"), FrontEnd.BPFMATRIX),
        (str(OURS / "cli/keeper.py"), FrontEnd.BPFMATRIX),
        ("/opt/venv/bin/pytest", FrontEnd.INVOKE),
        ("-c", FrontEnd.INVOKE),
        ("", FrontEnd.INVOKE),
    ],
)
def test_a_process_has_one_front_end(started: str, expected: FrontEnd) -> None:
    assert front_end.front_end(started) is expected


@pytest.mark.parametrize(
    ("words", "nox", "nox_alone"),
    [
        ("run --kernel 6.1", "nox -s kernel-6.1", "nox -s kernel-6.1"),
        (
            "run --kernel 6.1@user --run 'a b'",
            "nox -s kernel-6.1@user -- --run 'a b'",
            "nox -s kernel-6.1@user -- --run 'a b'",
        ),
        ("matrix", "nox -s matrix", "nox -s matrix"),
        (
            "matrix --available --kernels 7.4",
            "nox -s matrix -- --available --kernels 7.4",
            "nox -s matrix -- --available --kernels 7.4",
        ),
        ("pre-push --fresh", "nox -s pre-push -- --fresh", "nox -s pre-push -- --fresh"),
        (
            "run --image a/vmlinuz",
            "invoke run --image a/vmlinuz",
            "bpfmatrix run --image a/vmlinuz",
        ),
        ("doctor", "invoke doctor", "bpfmatrix doctor"),
        ("--help run", "invoke --help run", "bpfmatrix --help run"),
    ],
)
def test_the_form_of_a_command(words: str, nox: str, nox_alone: str) -> None:
    assert form(words, FrontEnd.NOX, with_tasks=True) == nox
    assert form(words, FrontEnd.NOX, with_tasks=False) == nox_alone
    assert form(words, FrontEnd.INVOKE, with_tasks=True) == f"invoke {words}"
    # invoke found the tasks, wherever its user told it to look for them.
    assert form(words, FrontEnd.INVOKE, with_tasks=False) == f"invoke {words}"
    for with_tasks in (True, False):
        assert form(words, FrontEnd.BPFMATRIX, with_tasks=with_tasks) == f"bpfmatrix {words}"


def test_tasks_are_those_of_the_nearest_tasks_file(tmp_path: Path) -> None:
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    assert not has_tasks(inner)
    (tmp_path / "tasks.py").write_text("from bpfmatrix.tasks import namespace\n")
    assert has_tasks(inner)
    (tmp_path / "a/tasks.py").write_text("from invoke import task\n")
    assert not has_tasks(inner)


def test_sessions_are_those_of_the_projects_own_noxfile(tmp_path: Path) -> None:
    assert not has_sessions(tmp_path)
    (tmp_path / "noxfile.py").write_text("import nox\n")
    assert not has_sessions(tmp_path)
    (tmp_path / "noxfile.py").write_text("from bpfmatrix.sessions import register\n")
    assert has_sessions(tmp_path)


def executable(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_the_program_is_named_so_that_the_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = executable(tmp_path / "bin/bpfmatrix")
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", str(program.parent))
    assert front_end.command("doctor") == "bpfmatrix doctor"
    monkeypatch.setenv("PATH", str(executable(tmp_path / "other/bpfmatrix").parent))
    assert front_end.command("doctor") == f"{program} doctor"


def test_a_module_is_named_with_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = executable(tmp_path / "bin/python3.11")
    monkeypatch.setattr(sys, "argv", [str(OURS / "__main__.py")])
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("PATH", str(python.parent))
    assert front_end.command("doctor") == "python3.11 -m bpfmatrix doctor"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert front_end.command("doctor") == f"{python} -m bpfmatrix doctor"

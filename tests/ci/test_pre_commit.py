"""The hooks of .pre-commit-hooks.yaml, by the real pre-commit, with a stand-in for bpfmatrix."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bpfmatrix.cli.tasks import namespace
from tests.tool import REPOSITORY

HOOKS = REPOSITORY / ".pre-commit-hooks.yaml"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the stand-in, which writes down how it is called, and fails then."""
    folder = tmp_path / "programs"
    folder.mkdir()
    calls = tmp_path / "calls"
    (folder / "bpfmatrix").write_text(
        f'#!/bin/sh\necho "$*" >>{calls}\necho "5.10 failed"\nexit 1\n'
    )
    (folder / "bpfmatrix").chmod(0o755)
    return folder


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", *words]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    return folder


def declare(folder: Path, *hooks: dict[str, str]) -> Path:
    """Return a repository whose .pre-commit-config.yaml has these hooks of ours."""
    ours = repository(folder / "hooks")
    shutil.copy(HOOKS, ours)
    git(ours, "add", "-A")
    git(ours, "commit", "-qm", "hooks")
    project = repository(folder / "project")
    named = {"repo": str(ours), "rev": git(ours, "rev-parse", "HEAD"), "hooks": [*hooks]}
    (project / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [named]}))
    return project


def run(project: Path, programs: Path, *command: str, status: int) -> str:
    """Run a command in a project, which must end with this status; return its output."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "PRE_COMMIT_HOME": str(project.parent / "cache"),
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        command,
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def test_a_push_runs_the_hook_and_is_stopped_by_it(tmp_path: Path, programs: Path) -> None:
    project = declare(tmp_path, {"id": "bpfmatrix-pre-push"}, {"id": "bpfmatrix-kernels"})
    git(project, "init", "-q", "--bare", "../remote.git")
    git(project, "remote", "add", "origin", str(tmp_path / "remote.git"))
    run(project, programs, "pre-commit", "install", "--hook-type", "pre-push", status=0)
    git(project, "add", "-A")
    git(project, "commit", "-qm", "one")
    said = run(project, programs, "git", "push", "origin", "main", status=1)
    assert "eBPF on the kernels of pre-push" in said
    assert "5.10 failed" in said
    # The other hook is for commits of kernels.yaml.
    assert (tmp_path / "calls").read_text() == "pre-push\n"


def test_a_project_in_a_folder_has_the_entry_of_the_guide(tmp_path: Path, programs: Path) -> None:
    guide = (REPOSITORY / "docs/ci.md").read_text()
    entry = re.search(r"^ +entry: (.*cd bpf.*)$", guide, re.MULTILINE)
    assert entry is not None
    project = declare(tmp_path, {"id": "bpfmatrix-pre-push", "entry": entry[1]})
    (project / "bpf").mkdir()
    (project / "bpf/kernels.yaml").touch()
    (programs / "bpfmatrix").write_text('#!/bin/sh\necho "$* in $(ls)"\nexit 1\n')
    git(project, "add", "-A")
    hook = ("pre-commit", "run", "--all-files", "--hook-stage", "pre-push")
    assert "pre-push in kernels.yaml" in run(project, programs, *hook, status=1)


@pytest.mark.parametrize(
    ("name", "matching", "other"),
    [
        (
            "bpfmatrix-verify",
            "bpf/probe.c bpf/probe.bpf.c bpf/probe.h src/main.rs x_bpfel.o kernels.yml",
            "README.md main.go a.cc notes.html",
        ),
        ("bpfmatrix-kernels", "kernels.yml a/kernels.yaml kernels.lock", "my-kernels.yml probe.c"),
    ],
)
def test_the_files_of_a_hook(name: str, matching: str, other: str) -> None:
    [pattern] = (one["files"] for one in yaml.safe_load(HOOKS.read_text()) if one["id"] == name)
    # pre-commit searches with Python's `re`.
    assert [path for path in matching.split() if not re.search(pattern, path)] == []
    assert [path for path in other.split() if re.search(pattern, path)] == []


def test_each_hook_runs_a_command_that_there_is() -> None:
    commands = {one["entry"] for one in yaml.safe_load(HOOKS.read_text())}
    assert commands <= {f"bpfmatrix {name}" for name in namespace.task_names}

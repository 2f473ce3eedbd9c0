"""The hooks of .pre-commit-hooks.yaml, by the real pre-commit, with a stand-in for bpfmatrix."""

import os
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


def test_a_push_runs_the_hook_and_is_stopped_by_it(tmp_path: Path, programs: Path) -> None:
    hooks = repository(tmp_path / "hooks")
    shutil.copy(HOOKS, hooks)
    git(hooks, "add", "-A")
    git(hooks, "commit", "-qm", "hooks")
    project = repository(tmp_path / "project")
    names = ("bpfmatrix-pre-push", "bpfmatrix-kernels")
    declared = {"repo": str(hooks), "rev": git(hooks, "rev-parse", "HEAD")}
    declared["hooks"] = [{"id": name} for name in names]  # type: ignore[assignment]
    (project / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [declared]}))
    git(project, "init", "-q", "--bare", "../remote.git")
    git(project, "remote", "add", "origin", str(tmp_path / "remote.git"))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "PRE_COMMIT_HOME": str(tmp_path / "cache"),
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
    }

    def run(*command: str, status: int) -> str:
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

    run("pre-commit", "install", "--hook-type", "pre-push", status=0)
    git(project, "add", "-A")
    git(project, "commit", "-qm", "one")
    said = run("git", "push", "origin", "main", status=1)
    assert "eBPF on the kernels of pre-push" in said
    assert "5.10 failed" in said
    # The other hook is for commits of kernels.yaml.
    assert (tmp_path / "calls").read_text() == "pre-push\n"


def test_each_hook_runs_a_command_that_there_is() -> None:
    commands = {one["entry"] for one in yaml.safe_load(HOOKS.read_text())}
    assert commands <= {f"bpfmatrix {name}" for name in namespace.task_names}

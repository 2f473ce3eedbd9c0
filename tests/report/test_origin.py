"""The origin of a report: what git says of the project."""

import subprocess
from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.report.origin import ReportOrigin

YAML = 'kernels: {"6.1": {source: {apt: {suite: bookworm}}}}\n'


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    root = tmp_path / "agent"
    root.mkdir()
    (root / "kernels.yaml").write_text(YAML)
    return Project.load(root)


def git(project: Project, *words: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *identity, "-C", project.root, *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_without_git_it_is_the_project_alone(project: Project) -> None:
    assert ReportOrigin.of(project) == ReportOrigin("agent")
    assert ReportOrigin.of(project).title == "agent"


def test_a_repository_without_a_commit_has_neither_branch_nor_commit(project: Project) -> None:
    git(project, "init", "-q", "-b", "main")
    assert ReportOrigin.of(project).title == "agent"


def test_branch_commit_and_changes_are_named(project: Project) -> None:
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    commit = git(project, "rev-parse", "--short=8", "HEAD")
    assert ReportOrigin.of(project).title == f"agent, main at {commit}"
    (project.root / "kernels.yaml").write_text(YAML + "\n")
    assert ReportOrigin.of(project).commit == f"{commit}+changes"


def test_ci_names_the_branch_of_a_checkout_without_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(project, "init", "-q", "-b", "main")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    git(project, "checkout", "-q", "--detach")
    assert ReportOrigin.of(project).branch == ""
    monkeypatch.setenv("GITHUB_REF_NAME", "5/merge")
    monkeypatch.setenv("GITHUB_HEAD_REF", "fix-it")
    assert ReportOrigin.of(project).branch == "fix-it"


def test_it_knows_which_kernels_are_declared(project: Project) -> None:
    assert ReportOrigin.of(project, ["6.1", "6.2"]).declared == {"6.1"}

"""GitLab's template: its scripts, run by a real shell, and looked over by shellcheck."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci.forge import gitlab, gitlab_job
from tests.ci.job import Job
from tests.tool import REPOSITORY

TEMPLATE = REPOSITORY / "ci/gitlab/bpfmatrix.yml"
DECLARED: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())[".bpfmatrix"]


def script(part: str) -> str:
    """Return a script as GitLab's runner gives it to the shell."""
    return "set -e\n" + "\n".join(DECLARED[part])


@pytest.fixture
def job(tmp_path: Path) -> Job:
    made = Job(tmp_path / "job")
    given = {name: value for name, value in DECLARED["variables"].items() if "$" not in value}
    # A command that boots nothing.
    given["BPFMATRIX_COMMAND"] = "kernels.list"
    given["BPFMATRIX_CACHE"] = str(made.folder / "cache")
    made.environment |= {**given, "GITLAB_CI": "true", "CI_DEFAULT_BRANCH": "main"}
    made.environment["CI_JOB_NAME"] = "bpfmatrix"
    made.declare("6.1")
    return made


@pytest.mark.parametrize("part", ["before_script", "script"])
def test_shellcheck_finds_nothing(part: str) -> None:
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "-"],
        input=script(part),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.stdout


def test_the_words_of_the_command(job: Job, tmp_path: Path) -> None:
    program = tmp_path / "programs/bpfmatrix"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit 7\n')
    program.chmod(0o755)
    words = {
        "PATH": f"{program.parent}:{job.environment['PATH']}",
        "BPFMATRIX_COMMAND": "verify",
        "BPFMATRIX_KERNELS": "6.1, 5.10",
        "BPFMATRIX_ARGUMENTS": "--cold *",
    }
    said = job.runs(["sh", "-c", script("script")], 7, **words)
    assert said.startswith("<verify><--kernels><6.1, 5.10><--cold><*>")


def test_installation_is_left_out_where_bpfmatrix_is(job: Job) -> None:
    assert job.runs(["sh", "-c", script("before_script")]) == ""
    assert "/.cache/" in (job.checkout / ".git/info/exclude").read_text()


def test_a_merge_request_is_compared_with_the_baseline_of_its_target(job: Job) -> None:
    job.verified(".bpfmatrix", "6.1", 1000)
    job.commit_and_push("main")
    run = ["sh", "-c", script("script")]
    pushes = {
        "CI_SERVER_PROTOCOL": "https",
        "CI_SERVER_HOST": "example.org",
        "CI_SERVER_PORT": "443",
        "CI_PROJECT_PATH": "you/project",
    }
    job.environment |= pushes
    # The token of the clone can't push; what can, is a URL with the other token.
    Path(job.folder / ".gitconfig").write_text(
        f'[url "file:///nonexistent"]\npushInsteadOf = {job.remote}\n[url "{job.remote}"]\n'
        "insteadOf = https://oauth2:secret@example.org:443/you/project.git\n"
    )
    job.runs(run, CI_COMMIT_BRANCH="main", GITLAB_TOKEN="secret")
    assert "refs/bpfmatrix/baseline" in job.git("ls-remote", "origin")
    assert "6.1.9" in (job.checkout / ".bpfmatrix/report.html").read_text()
    assert "6.1.9" in (job.checkout / ".bpfmatrix/junit.xml").read_text()
    assert "secret" not in (job.checkout / ".git/config").read_text()

    job.git("commit", "-q", "--allow-empty", "-m", "b")
    job.verified(".bpfmatrix", "6.1", 1120)
    with gitlab() as forge:
        job.environment |= gitlab_job(forge)
        job.environment["CI_MERGE_REQUEST_TARGET_BRANCH_NAME"] = "main"
        job.runs(run, 1, BPFMATRIX_FAIL_ON_REGRESSION="true")
    [note] = [one["body"] for one in forge.comments]
    assert note.startswith("<!-- bpfmatrix: bpfmatrix -->\n")
    assert "+12" in note


def test_a_folder_and_a_last_job_for_all_kernels(job: Job) -> None:
    (job.checkout / "bpf").mkdir()
    (job.checkout / "kernels.yaml").rename(job.checkout / "bpf/kernels.yaml")
    for kernel in ("5.10", "6.1"):
        job.verified("bpf/.bpfmatrix", kernel, 1000)
    job.environment |= {"BPFMATRIX_FOLDER": "bpf", "CI_MERGE_REQUEST_IID": "7"}
    run = ["sh", "-c", script("script")]
    # A comparison would fail, outside of a repository.
    job.runs(run, BPFMATRIX_COMPARE="false")
    report = job.checkout / "bpf/.bpfmatrix/report.html"
    report.unlink()
    last = yaml.safe_load(TEMPLATE.read_text())[".bpfmatrix-changes"]
    assert last["variables"] == {"BPFMATRIX_COMMAND": "report"}
    assert [one["if"] for one in last["rules"]] == [one["if"] for one in DECLARED["rules"]]
    job.runs(run, BPFMATRIX_COMPARE="false", **last["variables"])
    assert "5.10.9" in report.read_text()
    assert "6.1.9" in report.read_text()
    paths = [*DECLARED["artifacts"]["paths"], *DECLARED["artifacts"]["reports"].values()]
    assert all(path.startswith("$BPFMATRIX_FOLDER/.bpfmatrix/") for path in paths)


def test_both_caches_keep_the_same_folders() -> None:
    steps = (REPOSITORY / "ci/github/steps").read_text()
    kept = steps.partition("kept='")[2].partition("'")[0].split()
    paths = DECLARED["cache"]["paths"]
    assert paths == [f".cache/bpfmatrix/{name}" for name in kept]

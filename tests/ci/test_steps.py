"""The steps of GitHub's action, run as a runner runs them: by a real shell, with GITHUB_* files."""

import json
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results.verification import Code
from tests.ci.forge import github, github_job
from tests.ci.job import Job
from tests.tool import REPOSITORY

ACTION = REPOSITORY / "action.yml"
FILES = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY")


class GithubJob(Job):
    """A job of the action, with GitHub's files."""

    def __init__(self, folder: Path, action: Path = REPOSITORY) -> None:
        runner = {name: str(folder / name) for name in FILES}
        inputs = {
            f"INPUT_{name.upper().replace('-', '_')}": str(one["default"])
            for name, one in yaml.safe_load(ACTION.read_text())["inputs"].items()
        }
        here = {
            "RUNNER_TEMP": str(folder / "temp"),
            "RUNNER_OS": "Linux",
            "RUNNER_ARCH": "X64",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(folder / "checkout"),
        }
        super().__init__(folder, {**inputs, **here, **runner})
        self.action = action
        for path in runner.values():
            Path(path).touch()

    def step(self, *words: str, **more: str) -> str:
        """Run a step, with more variables, which must succeed; return its output."""
        return self.ends_with(0, *words, **more)

    def ends_with(self, status: int, /, *words: str, **more: str) -> str:
        """Run a step that must end with this status; return its output."""
        return self.runs([str(self.action / "ci/github/steps"), *words], status, **more)

    def file(self, name: str) -> str:
        return Path(self.environment[name]).read_text()

    def outputs(self) -> dict[str, str]:
        lines = self.file("GITHUB_OUTPUT").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def job(tmp_path: Path) -> GithubJob:
    return GithubJob(tmp_path / "job")


def test_the_plan_is_a_matrix(job: GithubJob) -> None:
    job.declare("5.10", "6.1", "6.1-arm64", matrix=("5.10", "6.1-arm64"))
    job.step("plan")
    assert json.loads(job.outputs()["plan"]) == {
        "include": [
            {"kernel": "5.10", "arch": "x86_64"},
            {"kernel": "6.1-arm64", "arch": "aarch64"},
        ]
    }


def test_the_key_of_the_cache_is_of_kernels_lock_or_else_of_kernels_yaml(job: GithubJob) -> None:
    job.declare("6.1")
    keys = []
    for change in ("", "kernels.yaml", "kernels.lock", "kernels.yaml"):
        if change:
            with (job.checkout / change).open("a") as file:
                file.write("\n")
        job.step("cache")
        keys.append(job.outputs()["key"])
    assert keys[0] != keys[1] != keys[2]
    assert keys[2] == keys[3]  # the releases are the same: kernels.lock has them
    job.step("cache", INPUT_KERNELS="6.1")
    assert job.outputs()["key"] != keys[3]
    assert all(key.startswith("bpfmatrix-1-Linux-X64-") for key in keys)


def test_a_cache_is_saved_again_only_if_something_came_to_it(job: GithubJob) -> None:
    job.declare("6.1")
    cache = job.folder / "cache"
    job.step("cache", BPFMATRIX_CACHE=str(cache))
    assert f"{cache}/kernels" in job.file("GITHUB_OUTPUT").splitlines()
    sums = []
    for name in ("kernels/x86_64/one", "templates/large", "kernels/x86_64/two"):
        (cache / name).mkdir(parents=True)
        job.step("contents", BPFMATRIX_CACHE=str(cache))
        sums.append(job.outputs()["sum"])
    assert sums[0] == sums[1] != sums[2]


def test_kvm(job: GithubJob, tmp_path: Path) -> None:
    said = tmp_path / "said"
    for name in ("sudo", "tee", "udevadm"):
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{said}\ncat >>{said} 2>&1 || :\n')
        program.chmod(0o755)
    path = f"{tmp_path}/programs:{job.environment['PATH']}"
    assert "no KVM" in job.step("kvm", str(tmp_path / "none"), PATH=path)
    device = tmp_path / "kvm"
    device.touch()
    job.step("kvm", str(device), PATH=path)
    assert not said.exists()  # whoever may write it, needs nothing
    job.step("kvm", str(tmp_path), PATH=path)  # not even root may write to a folder
    lines = said.read_text()
    assert 'KERNEL=="kvm", GROUP="kvm", MODE="0666"' in lines
    assert "udevadm trigger --name-match=kvm" in lines


def test_the_words_of_the_command(job: GithubJob, tmp_path: Path) -> None:
    program = tmp_path / "programs/bpfmatrix"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit 7\n')
    program.chmod(0o755)
    (job.checkout / "a.c").touch()
    words = {
        "PATH": f"{program.parent}:{job.environment['PATH']}",
        "INPUT_COMMAND": "verify",
        "INPUT_KERNELS": "6.1, 5.10",
        "INPUT_ARGUMENTS": "--cold  --run=Test*; *",
    }
    # The job has the command's own exit status. Nothing is expanded, and nothing else is run.
    said = job.ends_with(7, "run", **words)
    assert said == "<verify><--kernels><6.1, 5.10><--cold><--run=Test*;><*>"


def test_installation(tmp_path: Path) -> None:
    """With stand-ins for what takes long: bootstrap, pip and apt."""
    action = tmp_path / "action"
    (action / "ci/github").mkdir(parents=True)
    text = (REPOSITORY / "ci/github/steps").read_text()
    (action / "ci/github/steps").write_text(text)
    said = tmp_path / "said"
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in (action / "bootstrap", programs / "uv", action / "ci/github/steps"):
        if not program.exists():
            program.write_text(f'#!/bin/sh\necho "{program.name} $*" >>{said}\n')
        program.chmod(0o755)
    job = GithubJob(tmp_path / "job", action=action)
    job.environment["PATH"] = f"{programs}:{job.environment['PATH']}"
    job.step("install", INPUT_COMMAND="plan")
    assert "bootstrap" not in said.read_text()  # which needs no tools
    job.step("install")
    job.declare("6.1", "6.1-arm64", "6.1-s390x")
    job.step("tools", INPUT_KERNELS="6.1,6.1-arm64")
    venv = f"{job.environment['RUNNER_TEMP']}/bpfmatrix"
    lines = said.read_text().splitlines()
    assert f"uv pip install --quiet --python {venv}/bin/python --editable {action}" in lines
    assert [line for line in lines if line.startswith("bootstrap")] == [
        "bootstrap --tools",
        "bootstrap --tools aarch64 x86_64",
    ]
    # Later steps of the job get the command, and nothing else changes for them.
    folder = Path(job.file("GITHUB_PATH").splitlines()[-1])
    assert [path.readlink() for path in folder.iterdir()] == [Path(venv, "bin/bpfmatrix")]
    assert job.file("GITHUB_ENV") == ""


def test_a_job_without_results_has_no_report_and_does_not_fail_for_it(job: GithubJob) -> None:
    job.declare("6.1")
    assert "::warning::there are no results" in job.step("report")
    assert "artifact" not in job.outputs()
    job.commit_and_push("main")
    assert "nothing to compare" in job.step("compare")
    assert "no baseline to keep" in job.step("baseline", INPUT_SAVE_BASELINE="true")


def test_the_report_of_the_artifacts_of_other_jobs(job: GithubJob) -> None:
    job.declare("5.10", "6.1")
    for kernel in ("5.10", "6.1"):
        job.verified(f".bpfmatrix/artifacts/bpfmatrix-{kernel}", kernel, 100)
    job.step("report", INPUT_COMMAND="report", INPUT_NAME='all: "6.1"')
    assert "6.1.9" in (job.checkout / ".bpfmatrix/report.html").read_text()
    assert "5.10.9" in (job.checkout / ".bpfmatrix/junit.xml").read_text()
    assert "2 kernels" in job.file("GITHUB_STEP_SUMMARY")
    # Such characters are not allowed in the name of an artifact.
    assert job.outputs()["artifact"] == "all---6.1-"


def test_a_pull_request_is_compared_with_the_baseline_of_its_branch(job: GithubJob) -> None:
    job.declare("5.10", "6.1")
    job.verified(".bpfmatrix", "5.10", 1000)
    job.verified(".bpfmatrix", "6.1", 1000)
    job.commit_and_push("main")
    pushed = {"GITHUB_EVENT_NAME": "push", "DEFAULT_BRANCH": "main"}
    job.step("baseline", **pushed, GITHUB_REF_NAME="topic")
    assert "baseline" not in job.git("ls-remote", "origin")
    job.step("baseline", **pushed, GITHUB_REF_NAME="main")
    assert "refs/bpfmatrix/baseline" in job.git("ls-remote", "origin")

    job.commit_and_push("topic")
    job.verified(".bpfmatrix", "6.1", 1120)
    before = job.git("ls-remote", "origin", "refs/bpfmatrix/*")
    asked = {"INPUT_SAVE_BASELINE": "true", "GITHUB_EVENT_NAME": "pull_request"}
    assert "of a pull request are not kept" in job.step("baseline", **asked)
    assert job.git("ls-remote", "origin", "refs/bpfmatrix/*") == before
    with github() as forge:
        job.environment |= github_job(forge, job.folder) | {"GITHUB_BASE_REF": "main"}
        said = job.step("compare")
        [comment] = [one["body"] for one in forge.comments]
        # Nothing that the results say becomes a second annotation.
        assert "::error" not in said
        forge.may_write = False
        forge.comments.clear()
        # A fork's token may not write. The summary has the comparison all the same.
        failed = job.ends_with(1, "compare", INPUT_FAIL_ON_REGRESSION="true")
    assert comment.startswith("<!-- bpfmatrix: bpfmatrix -->\n")
    assert "+12" in comment
    assert "may not write a comment" in failed
    assert job.file("GITHUB_STEP_SUMMARY").count("+12") == 2
    assert "::error::compared with the base branch, something got worse" in failed


def test_a_refused_push_of_the_baseline_is_a_warning(job: GithubJob) -> None:
    job.declare("6.1")
    job.verified(".bpfmatrix", "6.1", 1000)
    job.commit_and_push("main")
    hook = job.folder / "remote.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho 'main is protected'\nexit 1\n")
    hook.chmod(0o755)
    saves = {"INPUT_SAVE_BASELINE": "true", "GITHUB_REF_NAME": "main"}
    said = job.step("baseline", **saves)
    assert "main is protected" in said
    assert "::warning::the results were not kept as the baseline" in said
    hook.unlink()
    assert "::warning" not in job.step("baseline", **saves)


def test_a_comparison_of_all_jobs(job: GithubJob) -> None:
    job.declare("5.10", "6.1")
    together = {"INPUT_COMMAND": "report", "INPUT_SAVE_BASELINE": "true"}
    for kernel in ("5.10", "6.1"):
        job.verified(f".bpfmatrix/artifacts/bpfmatrix-{kernel}", kernel, 1000)
    job.commit_and_push("main")
    job.step("baseline", **together, GITHUB_REF_NAME="main")
    job.verified(".bpfmatrix/artifacts/bpfmatrix-5.10", "5.10", 1000, code=Code.TOO_CLOSE)
    job.verified(".bpfmatrix/artifacts/bpfmatrix-6.1", "6.1", 2000)
    assert "+100%" in job.step("compare", **together).replace("&#43;", "+").replace("&#37;", "%")


def test_every_step_of_the_action_is_one_of_the_script() -> None:
    steps = yaml.safe_load(ACTION.read_text())["runs"]["steps"]
    used = {step["run"].split()[-1] for step in steps if "run" in step}
    text = (REPOSITORY / "ci/github/steps").read_text()
    known = text.rpartition("case ${1-} in")[2].partition(")")[0].replace("|", " ").split()
    assert used == {*known, "kvm"}

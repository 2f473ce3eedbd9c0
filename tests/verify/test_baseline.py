"""The baselines of branches, in real git repositories: a remote, and clones of it."""

import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult, Statistics, Verification
from bpfmatrix.verify.baseline import BaselineName, Baselines, reduced

PLAIN = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
AUTHOR = ("-c", "user.name=A", "-c", "user.email=a@example.org")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *AUTHOR, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, text: str) -> str:
    (folder / "prog.bpf.c").write_text(text)
    git(folder, "add", "prog.bpf.c")
    git(folder, "commit", "--quiet", "-m", text)
    return git(folder, "rev-parse", "HEAD")


def loaded(kernel: str, insns: int) -> Verification:
    statistics = Statistics(verifier_us=insns, instructions_processed=insns)
    program = ProgramResult(
        "a.bpf.o", "p", Outcome.PASSED, log="p.log", seconds=0.3, statistics=statistics
    )
    return Verification(kernel, Outcome.PASSED, version="6.1.192", seconds=2, programs=(program,))


def opened(folder: Path, said: list[str] | None = None, **ci: str) -> Baselines:
    return Baselines(folder, {**PLAIN, **ci}, (said if said is not None else []).append)


def costs(found: list[Verification]) -> dict[str, int | None]:
    return {one.kernel: one.programs[0].statistics.instructions_processed for one in found}


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    folder = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(folder))
    first = clone(tmp_path, "first", folder)
    commit(first, "one")
    git(first, "push", "--quiet", "origin", "HEAD:main")
    return folder


def clone(place: Path, name: str, remote: Path, *options: str) -> Path:
    git(place, "clone", "--quiet", *options, f"file://{remote}", name)
    return place / name


def test_names() -> None:
    assert BaselineName.parse("baseline") == BaselineName("")
    assert BaselineName.parse("baseline:release/1.2") == BaselineName("release/1.2")
    for other in ("base.json", "./baseline", "baseline:", "baseline.json"):
        assert BaselineName.parse(other) is None


def test_a_pull_request_is_compared_with_the_commit_that_it_began_at(
    remote: Path, tmp_path: Path
) -> None:
    main = clone(tmp_path, "main", remote)
    began = git(main, "rev-parse", "HEAD")
    saved = opened(main)
    saved.save([loaded("6.1", 1000), loaded("5.10", 900)], "main")
    assert saved.push("main") == "origin"
    commit(main, "two")
    git(main, "push", "--quiet")
    saved = opened(main)
    saved.save([loaded("6.1", 2000)], "main")
    saved.push("main")

    work = clone(tmp_path, "work", remote)
    git(work, "checkout", "--quiet", "-b", "change", began)
    commit(work, "three")
    here = opened(work)
    assert here.base_branches == ["change", "main"]
    found = here.find(here.base_branches)
    assert found is not None
    assert found.commit == began
    assert costs(found.verifications) == {"5.10": 900, "6.1": 1000}
    assert found.title == f"the baseline of main at {began[:12]}"


def test_a_shallow_checkout_of_a_merge_knows_its_base(remote: Path, tmp_path: Path) -> None:
    main = clone(tmp_path, "main", remote)
    began = git(main, "rev-parse", "HEAD")
    baselines = opened(main)
    baselines.save([loaded("6.1", 1000)], "main")
    baselines.push("main")
    git(main, "checkout", "--quiet", "-b", "change")
    commit(main, "change")
    git(main, "checkout", "--quiet", "--detach", began)
    git(main, "merge", "--quiet", "--no-ff", "-m", "merge", "change")
    git(main, "push", "--quiet", "origin", "HEAD:refs/heads/merged")

    job = clone(tmp_path, "job", remote, "--depth=1", "--branch=merged")
    found = opened(job, GITHUB_BASE_REF="main").find(["main"])
    assert found is not None
    assert (found.commit, found.is_ancestor) == (began, True)


def test_without_history_it_is_the_newest_and_that_is_said(remote: Path, tmp_path: Path) -> None:
    main = clone(tmp_path, "main", remote)
    for text in ("two", "three"):
        saved_at = commit(main, text)
        baselines = opened(main)
        baselines.save([loaded("6.1", len(text))], "main")
    baselines.push("main")
    for text in ("four", "five"):
        commit(main, text)
    git(main, "push", "--quiet")
    job = clone(tmp_path, "job", remote, "--depth=1")
    found = opened(job).find(["main"])
    assert found is not None
    assert (found.commit, found.is_ancestor) == (saved_at, False)
    assert found.title == f"the baseline of main at {saved_at[:12]}, the newest one"


def test_jobs_of_one_commit_push_side_by_side(remote: Path, tmp_path: Path) -> None:
    kernels = ["5.10", "5.15", "6.1", "6.6", "6.12"]
    jobs = {kernel: opened(clone(tmp_path, kernel, remote)) for kernel in kernels}

    def job(kernel: str) -> None:
        jobs[kernel].save([loaded(kernel, 100)], "main")
        jobs[kernel].push("main")

    with ThreadPoolExecutor(len(kernels)) as pool:
        list(pool.map(job, kernels))
    found = opened(clone(tmp_path, "work", remote)).find(["main"])
    assert found is not None
    assert set(costs(found.verifications)) == set(kernels)


def test_a_later_result_of_a_commit_replaces_the_earlier(remote: Path, tmp_path: Path) -> None:
    main = opened(clone(tmp_path, "main", remote))
    main.save([loaded("6.1", 1), loaded("5.10", 2)], "main")
    main.save([loaded("6.1", 3)], "main")
    found = main.find(["main"])
    assert found is not None
    assert costs(found.verifications) == {"5.10": 2, "6.1": 3}


def test_a_push_that_is_refused_says_what_git_says(remote: Path, tmp_path: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'read only mirror' >&2\nexit 1\n")
    hook.chmod(0o755)
    main = opened(clone(tmp_path, "main", remote))
    main.save([loaded("6.1", 1)], "main")
    with pytest.raises(BpfmatrixError, match=r"origin did not take refs/bpfmatrix/.*read only"):
        main.push("main")


def test_the_users_own_hook_before_a_push_does_not_run(remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    hook = folder / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    main = opened(folder)
    main.save([loaded("6.1", 1)], "main")
    assert main.push("main") == "origin"


def test_without_a_remote_it_is_kept_here(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk", "alone")
    alone = tmp_path / "alone"
    commit(alone, "one")
    said: list[str] = []
    baselines = opened(alone, said)
    assert baselines.own_branch == "trunk"
    assert baselines.base_branches == ["trunk"]
    assert baselines.find(["trunk"]) is None
    baselines.save([loaded("6.1", 7)], "trunk")
    found = baselines.find(["trunk"])
    assert found is not None
    assert costs(found.verifications) == {"6.1": 7}
    assert not said
    with pytest.raises(UsageError, match="has no remote"):
        baselines.push("trunk")


def test_a_remote_that_is_away_is_said_and_what_is_known_is_used(
    remote: Path, tmp_path: Path
) -> None:
    folder = clone(tmp_path, "main", remote)
    opened(folder).save([loaded("6.1", 7)], "main")
    remote.rename(tmp_path / "away")
    said: list[str] = []
    found = opened(folder, said).find(["main"])
    assert found is not None
    assert any("origin can't be asked for baselines" in text for text in said)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "is in no git repository"),
        (lambda folder: git(folder, "init", "--quiet"), "has no commit yet"),
    ],
)
def test_what_can_keep_no_baseline(
    prepare: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    prepare(tmp_path)
    with pytest.raises(UsageError, match=words):
        opened(tmp_path)


def test_a_detached_head_needs_a_name_or_a_job(remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    git(folder, "checkout", "--quiet", "--detach")
    git(folder, "remote", "set-head", "origin", "--delete")
    with pytest.raises(UsageError, match="no branch is checked out"):
        _ = opened(folder).own_branch
    assert opened(folder, CI_COMMIT_BRANCH="release").own_branch == "release"
    assert opened(folder, GITHUB_REF_NAME="release").base_branches == ["release", "main"]
    assert opened(folder, CI_MERGE_REQUEST_TARGET_BRANCH_NAME="x").base_branches == ["x"]
    git(folder, "remote", "remove", "origin")
    with pytest.raises(UsageError, match="no branch is checked out"):
        _ = opened(folder).base_branches


def test_changed_files_are_said(remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    (folder / "prog.bpf.c").write_text("not committed")
    said: list[str] = []
    opened(folder, said).save([loaded("6.1", 7)], "main")
    assert said[-1] == "1 tracked file differs from the commit that this baseline is kept for"


def test_damage_is_said(remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    opened(folder).save([loaded("6.1", 7)], "main")
    ref = "refs/bpfmatrix/baseline/main"
    blob = subprocess.run(
        ["git", "-C", folder, "hash-object", "-w", "--stdin"],
        input="{}",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    made = subprocess.run(
        ["git", "-C", folder, "mktree"],
        input=f"100644 blob {blob}\tverify.json\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    message = git(folder, "log", "-1", "--format=%B", ref)
    bad = git(folder, "commit-tree", made, "-p", ref, "-m", message)
    git(folder, "update-ref", ref, bad)
    with pytest.raises(BpfmatrixError, match="can't be read: 'verifications'"):
        opened(folder).find(["main"])


def test_what_is_kept_is_the_same_to_the_byte_for_the_same_results() -> None:
    one, other = loaded("6.1", 5), loaded("6.1", 5)
    assert reduced(one) == reduced(other)
    (program,) = reduced(one).programs
    assert (program.seconds, program.log, program.statistics.verifier_us) == (0, "", None)

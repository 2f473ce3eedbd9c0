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
from bpfmatrix.verify.baseline import REF, BaselineName, Baselines, Found, reduced

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


def costs(found: Found | None) -> dict[str, int | None]:
    assert found is not None
    return {
        one.kernel: one.programs[0].statistics.instructions_processed for one in found.verifications
    }


@pytest.fixture(autouse=True)
def _no_job_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")


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


def keep(folder: Path, *found: Verification) -> None:
    baselines = opened(folder)
    baselines.save(found)
    baselines.push()


def test_names() -> None:
    assert BaselineName.parse("baseline") == BaselineName("")
    assert BaselineName.parse("baseline:release/1.2") == BaselineName("release/1.2")
    for other in ("base.json", "./baseline", "baseline:", "baseline.json"):
        assert BaselineName.parse(other) is None


def test_work_is_compared_with_the_commit_that_it_began_at(remote: Path, tmp_path: Path) -> None:
    main = clone(tmp_path, "main", remote)
    began = git(main, "rev-parse", "HEAD")
    keep(main, loaded("6.1", 1000), loaded("5.10", 900))
    commit(main, "two")
    git(main, "push", "--quiet")
    keep(main, loaded("6.1", 2000))

    work = clone(tmp_path, "work", remote)
    git(work, "checkout", "--quiet", "-b", "change", began)
    commit(work, "three")
    found = opened(work).find(["6.1"])
    assert found is not None
    assert costs(found) == {"5.10": 900, "6.1": 1000}
    assert found.title == f"the baseline of {began[:12]}"


def test_a_kernel_without_results_there_has_those_of_an_earlier_commit(
    remote: Path, tmp_path: Path
) -> None:
    main = clone(tmp_path, "main", remote)
    began = git(main, "rev-parse", "HEAD")
    keep(main, loaded("6.1", 1), loaded("5.10", 2))
    later = commit(main, "two")
    keep(main, loaded("6.1", 3))
    found = opened(main).find(["5.10", "6.1", "7.3"])
    assert found is not None
    assert costs(found) == {"5.10": 2, "6.1": 3}
    assert found.commits == {"5.10": began, "6.1": later}


def test_a_late_job_of_an_older_commit_changes_nothing_else(remote: Path, tmp_path: Path) -> None:
    old = clone(tmp_path, "old", remote)
    new = clone(tmp_path, "new", remote)
    commit(new, "two")
    git(new, "push", "--quiet")
    keep(new, loaded("6.1", 20))
    keep(old, loaded("5.10", 1), loaded("6.1", 2))
    keep(new, loaded("5.10", 10))
    assert costs(opened(new).find(["5.10", "6.1"])) == {"5.10": 10, "6.1": 20}
    assert costs(opened(old).find(["5.10", "6.1"])) == {"5.10": 1, "6.1": 2}


def test_a_shallow_checkout_of_a_merge_knows_its_base(remote: Path, tmp_path: Path) -> None:
    main = clone(tmp_path, "main", remote)
    began = git(main, "rev-parse", "HEAD")
    keep(main, loaded("6.1", 1000))
    git(main, "checkout", "--quiet", "-b", "change")
    commit(main, "change")
    keep(main, loaded("6.1", 5000))  # of the work itself
    git(main, "checkout", "--quiet", "--detach", began)
    git(main, "merge", "--quiet", "--no-ff", "-m", "merge", "change")
    git(main, "push", "--quiet", "origin", "HEAD:refs/heads/merged")

    job = clone(tmp_path, "job", remote, "--depth=1", "--branch=merged")
    found = opened(job, GITHUB_BASE_REF="main").find(["6.1"])
    assert found is not None
    assert (costs(found), found.is_ancestor) == ({"6.1": 1000}, True)


def test_a_merge_request_says_its_base(remote: Path, tmp_path: Path) -> None:
    main = clone(tmp_path, "main", remote)
    began = git(main, "rev-parse", "HEAD")
    keep(main, loaded("6.1", 1000))
    git(main, "checkout", "--quiet", "-b", "change")
    commit(main, "change")
    keep(main, loaded("6.1", 5000))
    assert costs(opened(main).find(["6.1"])) == {"6.1": 5000}
    assert costs(opened(main, CI_MERGE_REQUEST_DIFF_BASE_SHA=began).find(["6.1"])) == {"6.1": 1000}
    assert costs(opened(main, CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main").find(["6.1"])) == {
        "6.1": 1000
    }


def test_another_revision(remote: Path, tmp_path: Path) -> None:
    main = clone(tmp_path, "main", remote)
    keep(main, loaded("6.1", 1))
    git(main, "checkout", "--quiet", "--orphan", "other")
    commit(main, "apart")
    assert opened(main).find(["6.1"]) is None
    assert costs(opened(main).find(["6.1"], "main")) == {"6.1": 1}
    with pytest.raises(UsageError, match="baseline:typo: git knows no such revision"):
        opened(main).find(["6.1"], "typo")


def test_without_history_it_is_the_newest_and_that_is_said(remote: Path, tmp_path: Path) -> None:
    main = clone(tmp_path, "main", remote)
    for text in ("two", "three"):
        saved_at = commit(main, text)
        opened(main).save([loaded("6.1", len(text))])
    opened(main).push()
    for text in ("four", "five"):
        commit(main, text)
    git(main, "push", "--quiet")
    job = clone(tmp_path, "job", remote, "--depth=1")
    found = opened(job).find(["6.1"])
    assert found is not None
    assert found.title == f"the baseline of {saved_at[:12]}, the newest one"
    assert costs(found) == {"6.1": len("three")}


def test_jobs_of_one_commit_push_side_by_side(remote: Path, tmp_path: Path) -> None:
    kernels = ["5.10", "5.15", "6.1", "6.6", "6.12"]
    folders = {kernel: clone(tmp_path, kernel, remote) for kernel in kernels}
    with ThreadPoolExecutor(len(kernels)) as pool:
        list(pool.map(lambda kernel: keep(folders[kernel], loaded(kernel, 100)), kernels))
    found = opened(clone(tmp_path, "work", remote)).find(kernels)
    assert set(costs(found)) == set(kernels)


def test_what_was_kept_here_stays_when_others_push(remote: Path, tmp_path: Path) -> None:
    here = clone(tmp_path, "here", remote)
    opened(here).save([loaded("5.10", 1)])
    keep(clone(tmp_path, "there", remote), loaded("6.1", 2))
    keep(here, loaded("7.3", 3))
    fresh = clone(tmp_path, "fresh", remote)
    assert costs(opened(fresh).find(["5.10"])) == {"5.10": 1, "6.1": 2, "7.3": 3}


def test_a_later_result_of_a_commit_replaces_the_earlier(remote: Path, tmp_path: Path) -> None:
    main = opened(clone(tmp_path, "main", remote))
    main.save([loaded("6.1", 1), loaded("5.10", 2)])
    main.save([loaded("6.1", 3)])
    assert costs(main.find(["6.1"])) == {"5.10": 2, "6.1": 3}


def test_two_projects_in_one_repository(remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    for number, name in enumerate(("a", "b ü")):
        (folder / name).mkdir()
        opened(folder / name).save([loaded("6.1@user", number)])
    assert costs(opened(folder / "a").find(["6.1@user"])) == {"6.1@user": 0}
    assert costs(opened(folder / "b ü").find(["6.1@user"])) == {"6.1@user": 1}
    assert opened(folder).find(["6.1@user"]) is None


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.LOST, Outcome.INTERRUPTED])
def test_a_kernel_that_loaded_nothing_is_not_kept(
    outcome: Outcome, remote: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    baselines = opened(clone(tmp_path, "main", remote), said)
    broken = Verification("5.10", outcome, "no answer from the mirror")
    baselines.save([loaded("6.1", 1), broken])
    assert "not kept, as nothing was loaded there: 5.10" in said
    assert costs(baselines.find(["5.10", "6.1"])) == {"6.1": 1}
    with pytest.raises(BpfmatrixError, match="no result that could be kept"):
        baselines.save([broken])


def test_a_push_that_is_refused_says_what_git_says(remote: Path, tmp_path: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'read only mirror' >&2\nexit 1\n")
    hook.chmod(0o755)
    main = opened(clone(tmp_path, "main", remote))
    main.save([loaded("6.1", 1)])
    with pytest.raises(BpfmatrixError, match=r"origin did not take refs/bpfmatrix/.*read only"):
        main.push()


def test_the_users_own_hook_before_a_push_does_not_run(remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    hook = folder / ".git/hooks/pre-push"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    keep(folder, loaded("6.1", 1))


def test_a_hook_of_another_repository_is_no_matter(
    remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clone(tmp_path, "main", remote)
    monkeypatch.setenv("GIT_DIR", str(remote))
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent/index")
    opened(folder).save([loaded("6.1", 7)])
    monkeypatch.undo()
    assert git(folder, "ls-tree", "-r", "--name-only", REF).endswith("/6.1.json")


def test_without_a_remote_it_is_kept_here(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk", "alone")
    alone = tmp_path / "alone"
    commit(alone, "one")
    said: list[str] = []
    baselines = opened(alone, said)
    assert baselines.find(["6.1"]) is None
    baselines.save([loaded("6.1", 7)])
    assert costs(baselines.find(["6.1"])) == {"6.1": 7}
    assert not said
    with pytest.raises(UsageError, match="has no remote"):
        baselines.push()


def test_a_remote_that_is_away_is_said_and_what_is_known_is_used(
    remote: Path, tmp_path: Path
) -> None:
    folder = clone(tmp_path, "main", remote)
    opened(folder).save([loaded("6.1", 7)])
    remote.rename(tmp_path / "away")
    said: list[str] = []
    assert costs(opened(folder, said).find(["6.1"])) == {"6.1": 7}
    assert any("origin can't be asked for a baseline" in text for text in said)


def test_a_baseline_that_the_remote_removed_is_gone(remote: Path, tmp_path: Path) -> None:
    keep(clone(tmp_path, "main", remote), loaded("6.1", 7))
    work = clone(tmp_path, "work", remote)
    assert costs(opened(work).find(["6.1"])) == {"6.1": 7}
    git(remote, "update-ref", "-d", REF)
    assert opened(work).find(["6.1"]) is None


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda folder: None, "git finds no repository"),
        (lambda folder: git(folder, "init", "--quiet"), "has no commit yet"),
    ],
)
def test_what_can_keep_no_baseline(
    prepare: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    prepare(tmp_path)
    with pytest.raises(UsageError, match=words):
        opened(tmp_path)


def test_changed_files_are_said(remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    (folder / "prog.bpf.c").write_text("not committed")
    said: list[str] = []
    opened(folder, said).save([loaded("6.1", 7)])
    assert said[-1] == "1 tracked file differs from the commit that this baseline is kept for"


@pytest.mark.parametrize(
    "text",
    ["{}", "[" * 200_000, "no JSON", '{"schema": 1, "kernel": [1], "programs": []}'],
    ids=["empty", "deep", "text", "types"],
)
def test_damage_is_said_and_new_results_replace_it(text: str, remote: Path, tmp_path: Path) -> None:
    folder = clone(tmp_path, "main", remote)
    opened(folder).save([loaded("6.1", 7)])
    (name,) = git(folder, "ls-tree", "-r", "--name-only", REF).splitlines()
    damaged = tmp_path / "damaged"
    damaged.write_text(text)
    blob = git(folder, "hash-object", "-w", str(damaged))
    other = tmp_path / "other"
    git(tmp_path, "init", "--quiet", "other")
    (other / ".git/objects/info/alternates").write_text(f"{folder}/.git/objects\n")
    git(other, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}")
    git(other, "commit", "--quiet", "-m", "damage")
    git(folder, "fetch", "--quiet", str(other), f"+HEAD:{REF}")
    with pytest.raises(BpfmatrixError, match="has a file that can't be read"):
        opened(folder).find(["6.1"])
    opened(folder).save([loaded("6.1", 8)])
    assert costs(opened(folder).find(["6.1"])) == {"6.1": 8}


def test_what_is_kept_is_the_same_to_the_byte_for_the_same_results() -> None:
    one, other = loaded("6.1", 5), loaded("6.1", 5)
    assert reduced(one) == reduced(other)
    (program,) = reduced(one).programs
    assert (program.seconds, program.log, program.statistics.verifier_us) == (0, "", None)

"""Bisections of real git repositories; what is built and booted is a function of the test."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bpfmatrix.bisect.commits import Commit, CommitSearch, FoundCommit, History
from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.errors import BpfmatrixError, UsageError
from tests.bisect.linux import Linux

GOOD, BAD, UNKNOWN = Answer.GOOD, Answer.BAD, Answer.UNKNOWN
ANSWERS = {"g": GOOD, "b": BAD, "?": UNKNOWN}


@pytest.fixture
def linux(tmp_path: Path) -> Callable[[str], Linux]:
    return lambda letters: Linux(tmp_path / "linux", letters)


class Trials:
    """Answers by the letter that the worktree has when a commit is tried."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.tried: list[str] = []

    def __call__(self, commit: Commit) -> Trial:
        self.tried.append(commit.subject)
        text = (self.history.worktree / "letter").read_text()
        assert text[2:-1] == commit.subject
        return Trial(ANSWERS[text[0]], "" if text[0] == "g" else f"why {text[0]}")


def found(history: History, question: str = "") -> tuple[FoundCommit, Trials]:
    trials = Trials(history)
    search = CommitSearch(history, question)
    with search.held():
        return search.run(trials), trials


def test_the_first_bad_commit_is_found_in_a_worktree_of_its_own(
    linux: Callable[[str], Linux],
) -> None:
    tree = linux("gggggbbbbbbb")
    # The user's checkout is dirty, and a bisection is going on there.
    (tree.root / "Makefile").write_text("changed\n")
    tree.git("bisect", "start", tree.commits[9], tree.commits[1])
    hook = tree.root / ".git/hooks/post-checkout"
    hook.write_text("#!/bin/sh\ntouch hook-ran\n")
    hook.chmod(0o755)
    before = (
        tree.git("status", "--short"),
        tree.git("rev-parse", "HEAD"),
        tree.git("bisect", "log"),
    )
    result, trials = found(tree.history())
    (commit,) = result.commits
    assert (commit.sha, commit.subject) == (tree.commits[5], "commit 5")
    assert (commit.author, len(commit.date)) == ("A. Tester <a@example.org>", len("2026-11-27"))
    assert result.answer is BAD
    # The ends first, and then a binary search among the other ten.
    assert trials.tried[:2] == ["commit 0", "commit 11"]
    assert len(trials.tried) <= 2 + 4
    after = (
        tree.git("status", "--short"),
        tree.git("rev-parse", "HEAD"),
        tree.git("bisect", "log"),
    )
    assert after == before
    assert not list(tree.root.parent.rglob("hook-ran"))


def test_a_fix_is_found_as_the_first_good_commit(linux: Callable[[str], Linux]) -> None:
    tree = linux("bbbgg")
    result, _ = found(tree.history(good="main", bad=tree.commits[0][:10]))
    assert (result.commits[0].sha, result.answer) == (tree.commits[3], GOOD)
    tree.git("tag", "v1", tree.commits[2])
    tree.git("tag", "v2", tree.commits[3])
    result, trials = found(tree.history(good="v2", bad="v1"), "another")
    assert (result.commits[0].sha, len(trials.tried)) == (tree.commits[3], 2)


def test_what_does_not_build_is_passed_over(linux: Callable[[str], Linux]) -> None:
    tree = linux("ggg?ggbbb")
    result, _ = found(tree.history())
    assert [commit.sha for commit in result.commits] == [tree.commits[6]]


def test_commits_without_an_answer_may_leave_several(linux: Callable[[str], Linux]) -> None:
    tree = linux("gg??bb")
    result, _ = found(tree.history())
    assert {commit.sha for commit in result.commits} == set(tree.commits[2:5])


def test_an_interrupted_bisection_goes_on_where_it_was(linux: Callable[[str], Linux]) -> None:
    tree = linux("gggggbbbbbbb")
    history = tree.history()
    trials = Trials(history)

    def interrupted(commit: Commit) -> Trial:
        if len(trials.tried) == 3:
            raise KeyboardInterrupt
        return trials(commit)

    search = CommitSearch(history, "q")
    with search.held(), pytest.raises(KeyboardInterrupt):
        search.run(interrupted)
    # A git that was killed leaves its lock.
    lock = Path(tree.git("-C", str(history.worktree), "rev-parse", "--git-path", "index.lock"))
    lock.touch()
    result, again = found(tree.history(), "q")
    assert result.commits[0].sha == tree.commits[5]
    assert not set(again.tried) & set(trials.tried)
    # Another question, and one that is to be asked again.
    assert found(tree.history(), "another")[1].tried[:2] == ["commit 0", "commit 11"]
    search = CommitSearch(tree.history(), "another")
    assert search.known
    search.forget()
    assert not search.known


def test_an_end_that_gave_no_answer_is_tried_again(linux: Callable[[str], Linux]) -> None:
    tree = linux("?bb")
    for _ in range(2):
        with pytest.raises(BpfmatrixError, match="can't be tried"):
            found(tree.history())
    search = CommitSearch(tree.history(), "")
    with search.held():
        result = search.run(lambda commit: Trial(GOOD if commit.subject == "commit 0" else BAD))
    assert result.commits[0].sha == tree.commits[1]


def test_a_worktree_that_was_removed_is_made_again(linux: Callable[[str], Linux]) -> None:
    tree = linux("gbb")
    history = tree.history()
    found(history)
    # By its files alone, so that git still has it in its list; and another one, of the user's.
    subprocess.run(["rm", "-r", history.worktree], check=True)
    other = tree.root.parent / "unplugged"
    tree.git("worktree", "add", "--quiet", "--detach", str(other))
    other.rename(tree.root.parent / "away")
    assert found(tree.history(), "another")[0].commits[0].sha == tree.commits[1]
    assert f"worktree {other}\n" in tree.git("worktree", "list", "--porcelain")


def test_a_commit_is_described_whatever_git_is_told_to_show_of_signatures(
    linux: Callable[[str], Linux],
) -> None:
    tree = linux("gb")
    tree.git("config", "log.showSignature", "true")
    # A commit with a signature, which is not valid.
    raw = tree.git("cat-file", "commit", "HEAD")
    head, _, message = raw.partition("\n\n")
    gpg = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"
    (tree.root / "signed").write_text(f"{head}\n{gpg}\n\n{message}\n")
    signed = tree.git("hash-object", "-t", "commit", "-w", "signed")
    history = tree.history(bad=signed)
    assert (history.describe(signed).sha, history.describe(signed).subject) == (signed, "commit 1")


@pytest.mark.parametrize(
    ("letters", "said"),
    [
        ("bgbb", "was given as good, but it is bad: why b"),
        ("ggbg", "was given as bad, but it is good"),
        ("?gbb", r"was given as good, but it can't be tried: why \?"),
    ],
)
def test_an_end_with_another_answer_is_an_error(
    linux: Callable[[str], Linux], letters: str, said: str
) -> None:
    tree = linux(letters)
    with pytest.raises(BpfmatrixError, match=said):
        found(tree.history())


def test_two_bisections_of_one_repository_do_not_meet(linux: Callable[[str], Linux]) -> None:
    history = linux("gb").history()
    one, other = CommitSearch(history, ""), CommitSearch(history, "")
    running = r"another bisection of .* is running"
    with one.held(), pytest.raises(BpfmatrixError, match=running), other.held():
        pass


def test_a_merge_base_that_is_bad_itself_ends_the_bisection(
    linux: Callable[[str], Linux],
) -> None:
    tree = linux("gbg")
    tree.git("checkout", "--quiet", "-b", "side", tree.commits[1])
    tree.commit("b", "side 0")
    with pytest.raises(BpfmatrixError, match="git bisect can't go on: The merge base"):
        found(tree.history(good="main", bad="side"))


def test_of_two_branches_the_merge_base_is_tried(linux: Callable[[str], Linux]) -> None:
    tree = linux("ggg")
    tree.git("checkout", "--quiet", "-b", "side", tree.commits[1])
    tree.commit("g", "side 0")
    bad = tree.commit("b", "side 1")
    result, trials = found(tree.history(good="main", bad="side"))
    assert result.commits[0].sha == bad
    assert "commit 1" in trials.tried


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("nope", "main", r"--good nope: .*linux has no such revision"),
        ("main", "--help", r"--bad --help: .*linux has no such revision"),
        ("main", "HEAD", "--good main and --bad HEAD are the same commit"),
        ("main", "notes", r"notes is not a source tree of Linux"),
    ],
)
def test_revisions_that_can_not_be_searched_are_refused(
    linux: Callable[[str], Linux], good: str, bad: str, said: str
) -> None:
    tree = linux("gg")
    tree.git("checkout", "--quiet", "--orphan", "notes")
    tree.git("rm", "--quiet", "--cached", "-r", ".")
    tree.git("commit", "--quiet", "--allow-empty", "-m", "notes")
    tree.git("symbolic-ref", "HEAD", "refs/heads/main")
    with pytest.raises(UsageError, match=said):
        tree.history(good=good, bad=bad)


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a git repository"):
        History(tmp_path, "v6.1", "v6.2", tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        History(tmp_path / "gone", "v6.1", "v6.2", tmp_path)


def test_variables_of_another_git_do_not_matter(
    linux: Callable[[str], Linux], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = linux("gb")
    monkeypatch.setenv("GIT_DIR", os.fspath(tree.root.parent / "elsewhere"))
    assert found(tree.history())[0].commits[0].sha == tree.commits[1]

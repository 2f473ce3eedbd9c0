"""What `bisect --tree` prints. The repository is real; a file in each commit is its answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.bisect import built_commit
from bpfmatrix.bisect.commits import Commit
from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import Trial
from bpfmatrix.cli import bisect_tree as module
from bpfmatrix.cli.bisect import BisectOptions
from bpfmatrix.cli.bisect_tree import bisect_tree
from bpfmatrix.config.project import Project
from tests.bisect.linux import Linux

ANSWERS = {"g": Answer.GOOD, "b": Answer.BAD, "?": Answer.UNKNOWN}
QUESTION = BisectOptions("one of a.o", "one")


@pytest.fixture
def tried(library_project: Project, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subjects of the commits that were tried; none is built."""
    subjects: list[str] = []

    def of_built_commits(
        project: Project, name: str, tree: Path, *_: object
    ) -> Callable[[Commit], Trial]:
        # The kernel of the trials is one that the project has.
        assert project.config.kernel(name).source.directory

        def try_commit(commit: Commit) -> Trial:
            subjects.append(commit.subject)
            answer = ANSWERS[(tree / "letter").read_text()[0]]
            reason = {Answer.UNKNOWN: "does not build: x.c:1: error", Answer.BAD: "code: why"}
            return Trial(answer, reason.get(answer, ""))

        return try_commit

    monkeypatch.setattr(built_commit, "of_built_commits", of_built_commits)
    monkeypatch.setattr(module, "trial_of", lambda *_: None)
    monkeypatch.setattr(module, "question", lambda *_: QUESTION.title)
    return subjects


def bisected(project: Project, tree: Linux, **more: Any) -> int:
    return bisect_tree(project, QUESTION, tree.root, "v1", "v2", **more)


def linux(tmp_path: Path, letters: str) -> Linux:
    tree = Linux(tmp_path / "linux", letters)
    tree.git("tag", "v1", tree.commits[0])
    tree.git("tag", "v2", tree.commits[-1])
    return tree


def test_the_commit_is_named_and_can_be_looked_at(
    library_project: Project,
    tmp_path: Path,
    tried: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = linux(tmp_path, "gggg?bbb")
    assert bisected(library_project, tree) == 1
    said = capsys.readouterr().out
    assert f"7 commits of {tree.root} between v1 (good) and v2 (bad)" in said
    # Commit 4 does not build, so it may be the one as well.
    for number in (4, 5):
        assert f"{tree.commits[number]}\n           commit {number}\n" in said
    assert "does not build: x.c:1: error\n" in said
    assert f"git -C {tree.root} worktree remove --force " in said
    before = len(tried)
    assert bisected(library_project, tree, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert {commit["sha"] for commit in told["commits"]} == set(tree.commits[4:6])
    # Everything was known from the first time.
    assert len(tried) == before
    assert bisected(library_project, tree, fresh=True) == 1
    assert len(tried) > before


def test_a_single_commit_is_the_answer(
    library_project: Project,
    tmp_path: Path,
    tried: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = linux(tmp_path, "ggbb")
    assert bisected(library_project, tree) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index(f"first bad  {tree.commits[2]}")
    assert lines[at + 1].strip() == "commit 2"
    assert lines[at + 2].strip().startswith("A. Tester <a@example.org>, 20")


def test_an_interruption_says_how_to_go_on(
    library_project: Project,
    tmp_path: Path,
    tried: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = linux(tmp_path, "ggbb")

    def interrupted(commit: Commit) -> Trial:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(built_commit, "of_built_commits", lambda *_: interrupted)
        with pytest.raises(KeyboardInterrupt):
            bisected(library_project, tree)
    assert "the same command goes on where this one was" in capsys.readouterr().err
    assert bisected(library_project, tree) == 0

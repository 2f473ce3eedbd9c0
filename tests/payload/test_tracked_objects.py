"""Tracked object files that a build has changed, in a real repository of git."""

import subprocess
from pathlib import Path

import pytest

from bpfmatrix.payload.tracked_objects import ChangedObjectsError, changed, require_unchanged


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of a repository, with two tracked objects, and one that is ignored."""
    folder = tmp_path / "repository/a project"
    (folder / "bpf").mkdir(parents=True)
    for name in ("bpf/a_bpfel.o", "b c.o", "ignored.o", "d.go"):
        (folder / name).write_text("as it was committed")
    (folder.parent / "of-another.o").touch()
    (folder / ".gitignore").write_text("ignored.o\n")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        author = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *author, *words], cwd=folder.parent, check=True)
    # As in a hook of git, which a worktree's push runs.
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    return folder


def test_what_is_the_same_again_has_not_changed(project: Path) -> None:
    (project / "b c.o").write_text("as it was committed")
    (project / "ignored.o").write_text("new")
    (project / "d.go").write_text("new")
    (project / "untracked.o").write_text("new")
    (project.parent / "of-another.o").write_text("new")
    assert changed(project) == []
    require_unchanged(project)


def test_objects_that_a_build_has_changed_are_named(project: Path) -> None:
    (project / "bpf/a_bpfel.o").write_text("new")
    (project / "b c.o").unlink()
    with pytest.raises(ChangedObjectsError, match=r"b c\.o, bpf/a_bpfel\.o differ from") as caught:
        require_unchanged(project)
    assert caught.value.advice.endswith("git add 'b c.o' bpf/a_bpfel.o")
    assert caught.value.exit_status == 1


def test_an_added_object_that_is_not_committed_has_changed(project: Path) -> None:
    (project / "new.o").touch()
    env = {"PATH": "/usr/bin:/bin"}
    subprocess.run(["git", "add", "new.o"], cwd=project, env=env, check=True)
    assert changed(project) == ["new.o"]


def test_outside_of_a_repository_nothing_has_changed(tmp_path: Path) -> None:
    (tmp_path / "a.o").touch()
    assert changed(tmp_path) == []

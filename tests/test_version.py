"""The version, which git's tags name: in clones, in archives that git makes, and without git."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bpfmatrix
from tests.tool import REPOSITORY

AUTHOR = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "A", "EMAIL": "a@b", "DATE": "2026-01-02T03:04:05Z"}.items()
}
FILES = ("pyproject.toml", ".git_archival.txt", ".gitattributes")


def git(folder: Path, *words: str) -> None:
    env = {**os.environ, **AUTHOR, "GIT_CONFIG_GLOBAL": "/dev/null"}
    subprocess.run(("git", *words), cwd=folder, check=True, capture_output=True, env=env)


def version(folder: Path, **env: str) -> str:
    """Return the version that a build in this folder would have."""
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A git repository with the files that decide about the version, and two commits."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "--initial-branch=main")
    for name in FILES:
        (folder / name).write_bytes((REPOSITORY / name).read_bytes())
    git(folder, "add", "--all")
    git(folder, "commit", "--message=first")
    git(folder, "commit", "--allow-empty", "--message=second")
    return folder


def test_a_clone_without_tags_has_a_version(checkout: Path, tmp_path: Path) -> None:
    assert version(checkout).startswith("0.1.dev2+g")
    git(tmp_path, "clone", "--depth=1", checkout.as_uri(), "shallow")
    assert version(tmp_path / "shallow").startswith("0.1.dev1+g")


def test_a_tag_is_the_version(checkout: Path) -> None:
    git(checkout, "tag", "v1.2.3")
    # The tag of the action, and others, are no versions.
    git(checkout, "tag", "v1")
    git(checkout, "tag", "ready-4.5.6")
    assert version(checkout) == "1.2.3"
    git(checkout, "commit", "--allow-empty", "--message=third")
    git(checkout, "tag", "--force", "v1")
    assert version(checkout).startswith("1.2.4.dev1+g")


def test_an_archive_of_git_has_the_version_of_its_tag(checkout: Path, tmp_path: Path) -> None:
    git(checkout, "tag", "--annotate", "--message=x", "v1.2.3")
    git(checkout, "archive", "--output=../archive.tar", "v1.2.3")
    (tmp_path / "archive").mkdir()
    subprocess.run(("tar", "-xf", "../archive.tar"), cwd=tmp_path / "archive", check=True)
    assert version(tmp_path / "archive") == "1.2.3"


def test_an_archive_of_a_commit_without_a_tag_names_the_commit(
    checkout: Path, tmp_path: Path
) -> None:
    git(checkout, "archive", "--output=../archive.tar", "HEAD")
    (tmp_path / "archive").mkdir()
    subprocess.run(("tar", "-xf", "../archive.tar"), cwd=tmp_path / "archive", check=True)
    assert re.fullmatch(r"0\.0\+g[0-9a-f]{7,}", version(tmp_path / "archive"))


def test_without_git_it_is_unknown(checkout: Path) -> None:
    assert version(checkout, PATH="/nowhere") == "0.0"


def test_it_is_that_of_the_installation() -> None:
    words = "import bpfmatrix, sys; print('importlib.metadata' in sys.modules, bpfmatrix.{})"
    done = subprocess.run(
        [sys.executable, "-c", words.format("__version__")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", bpfmatrix.__version__]
    with pytest.raises(AttributeError):
        bpfmatrix.no_such_name  # noqa: B018

"""Which files of a repository tests have in the guest."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import PayloadError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.integrity import settle
from bpfmatrix.payload import repository
from bpfmatrix.payload.disk import image
from bpfmatrix.payload.model import Payload
from bpfmatrix.payload.repository import of_project
from tests.payload.projects import configured


@pytest.fixture
def project(tmp_path: Path, cache: Cache) -> Project:
    """A project in the folder `sub` of a repository of git."""
    root = tmp_path / "repository"
    for name, content in {
        "go.mod": "module x\n",
        ".gitignore": "*.o\n",
        "sub/p/testdata/f": "hi\n",
        "sub/built.o": "ignored",
        "other/a b.txt": "a",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    (root / "link").symlink_to("go.mod")
    git(root, "init", "-q")
    git(root, "add", "-A")
    return configured(Project(root / "sub", None, cache), ebpf=None)  # type: ignore[arg-type]


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


ALL = (".gitignore", "go.mod", "link", "other/a b.txt", "sub/p/testdata/f")


def test_what_git_knows_is_listed(project: Project) -> None:
    root = project.root.parent
    (root / "new").write_text("not tracked yet")
    (root / "other/a b.txt").unlink()
    os.mkfifo(root / "fifo")
    found = of_project(project)
    assert found.root == root
    assert found.files == (".gitignore", "go.mod", "link", "new", "sub/p/testdata/f")
    assert found.contains(root)
    assert found.contains(project.root / "p")
    assert not found.contains(root.parent)


def test_patterns_choose_and_are_relative_to_the_project(project: Project) -> None:
    assert of_project(project, ["p"]).files == ("sub/p/testdata/f",)
    assert of_project(project, [":/", ":(exclude,top)other"]).files == tuple(
        name for name in ALL if not name.startswith("other")
    )
    with pytest.raises(PayloadError, match="git can't list"):
        of_project(project, [":(nonsense)x"])


def test_variables_of_a_hook_do_not_matter(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "none"))
    assert of_project(project).files == ALL


def test_a_checkout_runs_no_program(project: Project, tmp_path: Path) -> None:
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    monitor.chmod(0o755)
    git(project.root.parent, "config", "core.fsmonitor", str(monitor))
    git(project.root.parent, "status")
    assert (tmp_path / "ran").exists()  # so git would run it
    (tmp_path / "ran").unlink()
    of_project(project)
    assert not (tmp_path / "ran").exists()


def test_submodules_are_included(project: Project, tmp_path: Path) -> None:
    module = tmp_path / "module"
    module.mkdir()
    (module / "inner").write_text("x")
    git(module, "init", "-q")
    git(module, "add", "-A")
    git(module, "commit", "-qm", "x")
    added = ("submodule", "add", str(module), "third")
    git(project.root.parent, "-c", "protocol.file.allow=always", *added)
    assert "third/inner" in of_project(project).files


def test_without_git_all_files_of_the_project_are_listed(project: Project) -> None:
    shutil.rmtree(project.root.parent / ".git")
    for name in (".bpfmatrix/results/x.json", ".venv/bin/python", "p/__pycache__/x.pyc"):
        (project.root / name).parent.mkdir(parents=True)
        (project.root / name).write_text("")
    found = of_project(project)
    assert (found.root, found.files) == (project.root, ("built.o", "p/testdata/f"))
    with pytest.raises(PayloadError, match="in no repository of git"):
        of_project(project, ["p"])


def test_what_is_too_large_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with (project.root / "p/testdata/huge").open("wb") as file:
        file.truncate(repository.LIMIT_BYTES + 1)
    with pytest.raises(PayloadError, match=r"512 MB: sub/p 512 MB, ") as caught:
        of_project(project)
    assert "payload.repository" in caught.value.advice
    assert of_project(project, [":!*huge"]).files == ("sub/p/testdata/f",)


def test_an_image_has_the_files_and_links(project: Project, cache: Cache) -> None:
    root = project.root.parent
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    (root / "not-\udcff-utf8").write_text("x")
    disk = image(Payload((), repository=of_project(project)), cache)
    listing = subprocess.run(
        ["debugfs", "-R", "ls -p /.repository", disk.image], capture_output=True, check=True
    ).stdout.decode(errors="surrogateescape")
    # Inode, mode, owner, group, name, size: debugfs(8).
    modes = {line.split("/")[5]: line.split("/")[2] for line in listing.splitlines() if line}
    assert (modes["tool"], modes["go.mod"], modes["link"]) == ("100755", "100644", "120777")
    assert "not-\udcff-utf8" in modes


def test_a_changed_file_is_another_image(project: Project, cache: Cache) -> None:
    def disk_id() -> str:
        return image(Payload((), repository=of_project(project)), cache).id

    first, path = disk_id(), project.root / "p/testdata/f"
    assert disk_id() == first
    path.write_text("ho\n")
    changed = disk_id()
    path.write_text("hi\n")
    assert (changed != first, disk_id()) == (True, first)
    path.chmod(0o755)
    assert disk_id() != first


def test_unchanged_files_are_not_read(project: Project, cache: Cache) -> None:
    path = project.root / "p/testdata/f"
    for name in ALL:
        if not (project.root.parent / name).is_symlink():
            settle(project.root.parent / name)
    settled = of_project(project)
    assert settled.is_settled
    first = settled.checksum(cache)
    path.unlink()
    assert settled.checksum(cache) == first
    with pytest.raises(PayloadError, match="disappeared while"):
        settled.checksum(cache, reread=True)


def test_what_was_just_written_is_read_again(project: Project) -> None:
    (project.root / "p/testdata/f").write_text("now")
    assert not of_project(project).is_settled


def test_what_is_behind_a_link_is_left_out(project: Project, cache: Cache) -> None:
    root = project.root.parent
    shutil.move(root / "other", root.parent / "moved")
    (root / "other").symlink_to(root.parent / "moved")
    found = of_project(project)
    assert [name for name in found.files if name.startswith("other")] == ["other"]
    image(Payload((), repository=found), cache)
    assert (root.parent / "moved/a b.txt").read_text() == "a"


def test_each_save_leaves_few_images(project: Project, cache: Cache) -> None:
    path, made = project.root / "p/testdata/f", []
    for number in range(6):
        path.write_text(f"{number}")
        made.append(image(Payload((), repository=of_project(project)), cache).image)
    assert [one.exists() for one in made] == [False, False, True, True, True, True]
    assert len(list(made[0].parent.glob("*.ext4.check"))) == 4

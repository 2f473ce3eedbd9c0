"""Which files of a project are looked at."""

import os
from pathlib import Path

import pytest

from bpfmatrix.scaffold.tree import default_branch, look_at
from tests.scaffold.project import make


def test_without_git_all_files_are_listed_but_those_of_tools(tmp_path: Path) -> None:
    files = {"a.c": "", "b c/d e.o": "", "node_modules/x.o": "", ".venv/y": "", "vendor/z.go": ""}
    tree = make(tmp_path, files)
    assert tree.files == ("a.c", "b c/d e.o")
    assert tree.by_folder == {".": ("a.c",), "b c": ("d e.o",)}
    assert tree.built == frozenset()


def test_with_git_ignored_files_are_built_ones(tmp_path: Path) -> None:
    files = {
        ".gitignore": "build/\n*.o\nnode_modules\ntarget\n",
        **dict.fromkeys(("a.c", "b.o", "build/x/c.bpf.o", "node_modules/m/d.o"), ""),
        **dict.fromkeys(("target/debug/deps/test-1", "target/bpfel/release/prog"), ""),
    }
    tree = make(tmp_path, files, git=True)
    assert tree.files == (
        *(".gitignore", "a.c", "b.o", "build/x/c.bpf.o", "target/bpfel/release/prog"),
    )
    assert tree.built == {"b.o", "build/x/c.bpf.o", "target/bpfel/release/prog"}


def test_a_subfolder_of_a_repository_is_a_project(tmp_path: Path) -> None:
    make(tmp_path, {"above.c": "", "sub/.gitignore": "out/", "sub/out/a.o": ""}, git=True)
    tree = look_at(tmp_path / "sub")
    assert tree.files == (".gitignore", "out/a.o")


def test_a_loop_of_links_and_an_unreadable_folder_end_nothing(tmp_path: Path) -> None:
    make(tmp_path, {"a/b.c": "", "locked/c.c": ""})
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "dangling.o").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.o")
    (tmp_path / "locked").chmod(0)
    try:
        tree = look_at(tmp_path)
    finally:
        (tmp_path / "locked").chmod(0o755)
    assert "a/b.c" in tree.files
    assert not any(path.startswith("a/loop/") for path in tree.files)
    assert tree.head("pipe.o") == tree.head("dangling.o") == b""
    if os.geteuid() != 0:  # root may read it
        assert tree.unreadable == ("locked",)


def test_names_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, {"a.o": ""})
    (tmp_path / os.fsdecode(b"\xff.o")).touch()
    assert look_at(tmp_path).files == ("a.o",)


@pytest.mark.parametrize("name", ["main", "trunk"])
def test_the_default_branch_is_that_of_git(tmp_path: Path, name: str) -> None:
    make(tmp_path, {"a": ""}, git=True)
    (tmp_path / ".git" / "HEAD").write_text(f"ref: refs/heads/{name}\n")
    assert default_branch(tmp_path) == name


def test_without_git_the_default_branch_is_main(tmp_path: Path) -> None:
    assert default_branch(tmp_path) == "main"

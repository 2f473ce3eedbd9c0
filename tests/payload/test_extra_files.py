import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config.models import PayloadConfig
from bpfmatrix.config.project import Project
from bpfmatrix.config.value_types import is_relative_path
from bpfmatrix.errors import BuildError, PayloadError
from bpfmatrix.payload import extra_files
from tests.damage import DAMAGES


def written(root: Path, **contents: str) -> None:
    for name, content in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_a_file_and_a_folder(tmp_path: Path) -> None:
    written(tmp_path, one="1", tree__a="a", tree__deep__b="b")
    (tmp_path / "tree/empty").mkdir()
    files = {"x/first": Path("one"), "data": Path("tree"), "absolute": tmp_path / "one"}
    assert extra_files.named(tmp_path, files) == {
        "x/first": tmp_path / "one",
        "data/a": tmp_path / "tree/a",
        "data/deep/b": tmp_path / "tree/deep/b",
        "absolute": tmp_path / "one",
    }


def test_links_are_followed(tmp_path: Path) -> None:
    written(tmp_path, tree__a="a", other__b="b")
    (tmp_path / "tree/to_file").symlink_to("a")
    (tmp_path / "tree/to_folder").symlink_to("../other")
    assert set(extra_files.named(tmp_path, {"t": Path("tree")})) == {
        "t/a",
        "t/to_file",
        "t/to_folder/b",
    }


def test_a_tree_that_leads_back_to_itself(tmp_path: Path) -> None:
    written(tmp_path, tree__deep__a="a")
    (tmp_path / "tree/deep/up").symlink_to("..")
    with pytest.raises(PayloadError, match=r"tree/deep/up leads back to .*/tree, in which it lies"):
        extra_files.named(tmp_path, {"t": Path("tree")})


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="missing can't be read: No such file"):
        extra_files.named(tmp_path, {"t": Path("missing")})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PayloadError, match="pipe is neither a file nor a folder"):
        extra_files.named(tmp_path, {"t": Path("pipe")})
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/dangling").symlink_to("nowhere")
    with pytest.raises(PayloadError, match="dangling can't be read"):
        extra_files.named(tmp_path, {"t": Path("tree")})


def test_two_files_with_the_same_path(tmp_path: Path) -> None:
    written(tmp_path, tree__a="a", one="1")
    with pytest.raises(PayloadError, match="would both be t/a in the payload"):
        extra_files.named(tmp_path, {"t": Path("tree"), "t/a": Path("one")})


@pytest.mark.parametrize("place", ["", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b"])
def test_places_that_are_refused(place: str) -> None:
    assert not is_relative_path(place)
    with pytest.raises(ValueError, match="expected a relative path"):
        PayloadConfig(files={place: Path("x")})


@given(st.text("ab./\n\t\0", max_size=8))
def test_a_place_stays_in_its_tree(text: str) -> None:
    if is_relative_path(text):
        assert os.path.normpath(text) == text
        assert not text.startswith(("/", "../"))
        assert text != ".."


class Commands:
    """A project's command that lists files, and how often it was run."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.runs = project.root / "runs"
        self.script = project.root / "list.sh"

    def prints(self, *lines: str, status: int = 0) -> None:
        said = "".join(f"printf '%b\\n' '{line}'\n" for line in lines)
        self.script.write_text(f"echo run >>{self.runs}\n{said}exit {status}\n")

    def listed(self, arch: str = "x86_64") -> dict[str, Path]:
        return extra_files.listed(self.project, {"tree": ["sh", "list.sh"]}, arch)

    @property
    def count(self) -> int:
        return len(self.runs.read_text().splitlines())


@pytest.fixture
def commands(library_project: Project) -> Commands:
    return Commands(library_project)


def test_a_command_lists_files(commands: Commands) -> None:
    root = commands.project.root
    written(root, here="1")
    commands.prints("bin/a\\t/bin/sh", "b\\there")
    assert commands.listed() == {"tree/bin/a": Path("/bin/sh"), "tree/b": root / "here"}


@pytest.mark.parametrize("harm", DAMAGES)
def test_it_is_run_again_if_its_record_is_damaged(
    commands: Commands, harm: Callable[[Path], None]
) -> None:
    written(commands.project.root, here="1")
    commands.prints("a\\there")
    first = commands.listed()
    [record] = (commands.project.state / "build/listed").iterdir()
    harm(record)
    assert commands.listed() == first
    assert commands.count == 2
    assert commands.listed() == first
    assert commands.count == 2


def test_it_is_only_run_again_if_something_changed(commands: Commands) -> None:
    written(commands.project.root, here="1")
    commands.prints("a\\there")
    first = commands.listed()
    assert commands.listed() == first
    assert commands.count == 1
    written(commands.project.root, here="22")
    assert commands.listed() == first
    assert commands.count == 2
    commands.prints("a\\there", "b\\there")
    assert set(commands.listed()) == {"tree/a", "tree/b"}
    assert commands.count == 3
    commands.listed("aarch64")
    assert commands.count == 4
    (commands.project.root / "here").unlink()
    with pytest.raises(PayloadError, match="printed"):
        commands.listed()


def test_the_command_knows_the_architecture(commands: Commands) -> None:
    commands.script.write_text('printf "%s\\t/bin/sh\\n" "$BPFMATRIX_ARCH"\n')
    assert set(commands.listed("aarch64")) == {"tree/aarch64"}


@pytest.mark.parametrize(
    "line",
    ["a", "\\t/bin/sh", "../a\\t/bin/sh", "a\\t", "a\\t/bin/nothing-of-that-name", "a\\t/bin"],
)
def test_lines_that_do_not_name_a_file(commands: Commands, line: str) -> None:
    commands.prints(line)
    with pytest.raises(PayloadError, match=r"sh list\.sh printed "):
        commands.listed()


def test_a_command_that_fails_is_quoted(commands: Commands) -> None:
    commands.script.write_text("echo nothing to list >&2\nexit 3\n")
    with pytest.raises(BuildError, match=r"sh list\.sh failed:\n  nothing to list"):
        commands.listed()
    missing = {"tree": ["no-command-of-that-name"]}
    with pytest.raises(BuildError, match="no-command-of-that-name can't be run: No such file"):
        extra_files.listed(commands.project, missing, "x86_64")


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(ValueError, match=r"listed\.a\n"):
        PayloadConfig.model_validate({"listed": {"a": []}})

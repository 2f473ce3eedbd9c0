"""The folders of debug sessions, several of which may run at a time."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bpfmatrix.debug.own_folder import own_folder


def test_each_session_has_a_folder_and_later_ones_take_it_again(tmp_path: Path) -> None:
    project: Any = SimpleNamespace(state=tmp_path)
    with own_folder(project, "6.1") as first, own_folder(project, "6.1") as second:
        assert [first.name, second.name] == ["6.1", "6.1-2"]
        with own_folder(project, "6.1-2") as other:  # a kernel with the name of that folder
            assert other.name == "6.1-2-2"
        second.mkdir()
        (second / "console.log").touch()
    with own_folder(project, "6.1") as first, own_folder(project, "6.1") as second:
        assert [first.name, second.name] == ["6.1", "6.1-2"]
        assert not second.exists()
    assert {path.name for path in tmp_path.glob("debug/[!.]*")} <= {"6.1", "6.1-2"}

from pathlib import Path

import pytest

from bpfmatrix.cli import logs
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError


@pytest.fixture
def project(library_project: Project) -> Project:
    folder = library_project.results / "6.1"
    for place in ("console", "example.org/m/a/x", "example.org/m/b/x", "example.org/m/y", "y"):
        path = folder / f"{place}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of {place}")
    (library_project.results / "6.1.json").write_text("{}")
    return library_project


def shown(project: Project, test: str) -> str:
    written: list[bytes] = []
    logs.show(project, "6.1", test, written.append)
    return b"".join(written).decode()


@pytest.mark.parametrize(
    ("test", "place"),
    [
        ("", "console"),
        ("example.org/m/a/x", "example.org/m/a/x"),
        ("b/x", "example.org/m/b/x"),
        ("m/y", "example.org/m/y"),
        ("y", "y"),
    ],
)
def test_a_log_is_named_by_the_end_of_a_package_s_path(
    project: Project, test: str, place: str
) -> None:
    assert shown(project, test) == f"of {place}"


def test_an_end_of_two_names_is_a_usage_error(project: Project) -> None:
    with pytest.raises(UsageError, match="several test binaries are called 'x'") as caught:
        shown(project, "x")
    assert "example.org/m/a/x, example.org/m/b/x" in str(caught.value)


def test_a_name_that_no_log_has_is_a_usage_error_with_all_names(project: Project) -> None:
    with pytest.raises(UsageError, match=r"the last run of 6\.1 has no log of 'z'") as caught:
        shown(project, "z")
    assert "console, example.org/m/a/x" in str(caught.value)


def test_a_log_that_can_not_be_read_is_a_usage_error(project: Project, tmp_path: Path) -> None:
    (project.results / "6.1/gone.log").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="has no log of 'gone'"):
        shown(project, "gone")

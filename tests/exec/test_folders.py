"""The folders of the host that a command needs in a guest without the host's root."""

from pathlib import Path

import pytest

from bpfmatrix.exec.folders import with_folders_of
from bpfmatrix.virtiofs.shares import HostFiles, SharedFolder


def shared(program: str, project: Path, files: HostFiles, folder: Path) -> list[str]:
    found = with_folders_of(files, program, folder, project)
    return [str(share.path) for share in found.shares if not share.writable]


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/tmp/go-build1/b001/x.test", ["/srv/project", "/tmp/go-build1"]),
        ("/tmp/other/x.test", ["/srv/project", "/tmp/other"]),
        ("/tmp/x.test", ["/srv/project"]),  # /tmp is the guest's own
        ("./x.test", ["/srv/project"]),
        ("../../elsewhere/build/x.test", ["/srv/elsewhere", "/srv/project"]),
        ("sh", ["/srv/project"]),
        ("/bin/sh", ["/srv/project"]),
    ],
)
def test_the_project_and_the_program(program: str, expected: list[str]) -> None:
    project = Path("/srv/project")
    assert shared(program, project, HostFiles(), project / "package") == expected


def test_what_is_shared_already_stays_as_it_is() -> None:
    files = HostFiles(shares=(SharedFolder(Path("/srv"), writable=True),))
    found = with_folders_of(files, "./x", Path("/srv/project"), Path("/srv/project"))
    assert found == files


def test_the_hosts_root_has_all_of_them() -> None:
    files = HostFiles(Path("/"))
    assert with_folders_of(files, "/tmp/a/b/x", Path("/srv"), Path("/srv")) == files

from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError
from bpfmatrix.payload import build
from tests.payload.projects import configured


def test_binaries_replace_those_that_are_declared(library_project: Project, tmp_path: Path) -> None:
    for name in ("declared", "given"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    project = configured(library_project, ebpf=None, go=None, binaries=[str(tmp_path / "declared")])
    declared, _ = build.payload(project, "x86_64")
    given, _ = build.payload(project, "x86_64", [tmp_path / "given"])
    assert [test.name for test in declared.tests] == ["declared"]
    assert [test.name for test in given.tests] == ["given"]
    with pytest.raises(ConfigError, match="there is nothing to run"):
        build.payload(configured(library_project, ebpf=None, go=None), "x86_64")


def test_a_binary_has_its_settings_over_those_of_the_payload(
    library_project: Project, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    entry = {"path": str(tmp_path / "b"), "user": "daemon", "folder": "sub", "args": ["x"]}
    project = configured(
        library_project,
        ebpf=None,
        go=None,
        user="nobody",
        memlock="64K",
        binaries=[str(tmp_path / "a"), entry],
    )
    (a, b), (given,) = (
        build.payload(project, "x86_64", binaries)[0].tests for binaries in ([], [tmp_path / "b"])
    )
    assert (a.settings.user, a.settings.memlock) == ("nobody", 65536)
    assert (b.settings.user, b.settings.memlock) == ("daemon", 65536)
    assert b.folder == project.root / "sub"
    assert given == b  # the one that kernels.yaml declares, named on the command line
    [(_, argv)] = build.payload(project, "x86_64")[0].commands("^b$", ["y"])
    assert argv[1:] == ("x", "y")


def test_a_pattern_that_matches_no_package_is_an_error(library_project: Project) -> None:
    project = configured(library_project, ebpf=None, go=None, packages={"intrnal/*": {}})
    with pytest.raises(ConfigError, match=r"payload\.packages: 'intrnal/\*' matches no Go package"):
        build.payload(project, "x86_64")

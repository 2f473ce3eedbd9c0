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

"""What runs in the guest while gdb holds it."""

from pathlib import Path

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.debug import workload
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.session.observer import Observer
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.vm.limits import Limit


def test_a_project_without_tests_is_told_of_objects(tmp_path: Path) -> None:
    (tmp_path / "kernels.yaml").write_text('kernels: {"6.1": {source: {apt: {suite: bookworm}}}}')
    project = Project.load(tmp_path)
    tests = workload.TestsUnderGdb(project, RunOptions(), Limit(60, "debug"))
    with pytest.raises(NoTestsError) as error:
        tests.payload("x86_64", Observer())
    assert "nothing to run" in error.value.what
    assert error.value.advice.endswith("--object FILE")

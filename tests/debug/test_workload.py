"""What runs in the guest while gdb holds it."""

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.debug.workload import TestsUnderGdb as TestWorkload
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.session.observer import Observer
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.vm.limits import Limit


def test_a_project_without_tests_is_told_of_objects(project: Project) -> None:
    workload = TestWorkload(project, RunOptions(), Limit(60, "debug"))
    with pytest.raises(NoTestsError) as error:
        workload.payload("x86_64", Observer())
    assert "nothing to run" in error.value.what
    assert error.value.advice.endswith("--object FILE")

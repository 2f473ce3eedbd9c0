"""The tracer with every version of Python that this machine, or Debian, has."""

import re
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results.outcome import Outcome
from tests import pythons
from tests.tool import REPOSITORY, ToolProject, by_name

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_frames_and_lines_are_those_that_python_tells(
    project: ToolProject, version: str, tmp_path: Path
) -> None:
    python = pythons.on_this_machine(version)
    if not python and version not in pythons.SUITES:
        pytest.skip(f"neither this machine nor a release of Debian has Python {version}")
    python = python or str(pythons.of_debian(version, tmp_path / "debian"))
    ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["payload"]
    words = [
        re.sub("^(--path=)?(support|bytecode-lines)/", rf"\1{REPOSITORY}/\2/", word)
        for word in ours["listed"]["python"]
    ]
    project.configure(
        payload={
            "ebpf": str(REPOSITORY / "ebpf"),
            "go": {"module": str(REPOSITORY / "support"), "packages": ["./programs"]},
            "files": {place: str(REPOSITORY / path) for place, path in ours["files"].items()},
            "listed": {"python": words},
        }
    )
    done = project.invoke(
        *("run", "--kernel", "6.1", "--run", "TestPythonTracer"),
        env={"BPFMATRIX_PYTHON": python},
    )
    assert done.status == 0, done.output
    run = project.result()
    assert by_name(run)["TestPythonTracer/lines_are_those_of_python"].outcome is Outcome.PASSED
    assert f"CPython {version}" in (project.root / run.logs[0]).read_text()

"""The tracer with every Python of this machine that it can look into, not only the first one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results.outcome import Outcome
from tests.tool import REPOSITORY, ToolProject, by_name

pytestmark = pytest.mark.integration


def pythons() -> Iterator[tuple[str, str]]:
    """Give versions, and for each the first interpreter of it, on PATH or of pyenv."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for version in ("3.11", "3.12", "3.13"):
        own = sorted(root.glob(f"versions/{version}.*/bin/python3"))
        for path in filter(None, (shutil.which(f"python{version}"), *map(str, own))):
            # What pyenv puts on PATH ends with an error where no such version is chosen.
            if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
                yield version, path
                break


PYTHONS = dict(pythons())


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_frames_and_lines_are_those_that_python_tells(project: ToolProject, version: str) -> None:
    if version not in PYTHONS:
        pytest.skip(f"this machine has no Python {version}")
    ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["payload"]
    words = [
        word.replace("support", str(REPOSITORY / "support")).replace("=src", f"={REPOSITORY}/src")
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
        env={"BPFMATRIX_PYTHON": PYTHONS[version]},
    )
    assert done.status == 0, done.output
    run = project.result()
    assert by_name(run)["TestPythonTracer/lines_are_those_of_python"].outcome is Outcome.PASSED
    assert f"CPython {version}" in (project.root / run.logs[0]).read_text()

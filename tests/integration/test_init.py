"""From a project without a kernels.yaml to a green kernel: `init`, and a run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bpfmatrix.config import kernels_yaml
from bpfmatrix.config.project import Project
from bpfmatrix.payload import ebpf
from bpfmatrix.results.outcome import Outcome
from tests.tool import REPOSITORY, ToolProject, plain_environment

pytestmark = pytest.mark.integration

OWN = ("kernels.yaml", "noxfile.py", "tasks.py", ".bpfmatrix", "__pycache__")


def init(folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bpfmatrix", "init"],
        cwd=folder,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_go_module_with_an_object_gets_green(tmp_path: Path) -> None:
    root = tmp_path / "a project"
    shutil.copytree(
        REPOSITORY / "docs/examples/testdata", root, ignore=shutil.ignore_patterns(*OWN)
    )
    (root / "build").mkdir()
    objects = {path.name: path for path in ebpf.objects(Project.load(REPOSITORY)).files}
    shutil.copy(objects["sched_monitor.bpf.o"], root / "build")
    said = init(root)
    assert "found   build/*.bpf.o (1 object)" in said
    assert "found   Go module: 1 package with tests, 1 of them about eBPF" in said
    # The suites of Debian are asked: these three have had their kernels for years.
    declared = kernels_yaml.load(root / "kernels.yaml").matrix_ids
    assert {"5.10", "6.1", "6.12"} <= set(declared)
    assert declared[-1] not in ("6.12", "newest")
    project = ToolProject(root)
    done = project.invoke("run", "--kernel", "6.1")
    assert done.status == 0, done.output
    run = project.result("6.1")
    assert run.outcome is Outcome.PASSED
    assert {test.name.partition("/")[0] for test in run.tests} == {"TestPackets"}
    assert "3 of 3 programs loaded" in done.output

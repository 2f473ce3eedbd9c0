"""Tests and `verify` in one run, on real kernels: what runs, what is cached, and who fails."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bpfmatrix.config.project import Project
from bpfmatrix.payload import ebpf
from bpfmatrix.results import files
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Verification
from tests.tool import REPOSITORY, Finished, ToolProject, plain_environment

pytestmark = pytest.mark.integration


def declare(project: ToolProject, **keys: Any) -> None:
    """Set further keys of kernels.yaml."""
    path = project.root / "kernels.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys, sort_keys=False))


def verified(project: ToolProject, kernel: str) -> Verification:
    return files.read_verification(project.root / f".bpfmatrix/verify/{kernel}.json")


def nox(project: ToolProject, *words: str) -> Finished:
    done = subprocess.run(
        [sys.executable, "-m", "nox", *words],
        cwd=project.root,
        env=plain_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return Finished(done.returncode, done.stdout, 0)


@pytest.fixture
def objects(project: ToolProject) -> ToolProject:
    """A project with nothing but three built objects, of which 5.10 can't load one."""
    built = {path.name: path for path in ebpf.objects(Project.load(REPOSITORY)).files}
    (project.root / "build").mkdir(parents=True)
    for name in ("bounded_loops", "ringbuf_events", "sched_monitor"):
        shutil.copy(built[f"{name}.bpf.o"], project.root / "build")
    project.configure(["5.10", "6.1"], payload={})
    declare(project, verify={"objects": [{"path": "build/*.bpf.o"}]})
    return project


def test_objects_alone_are_enough(objects: ToolProject, monkeypatch: pytest.MonkeyPatch) -> None:
    done = nox(objects, "-s", "matrix")
    assert done.status == 0, done.output
    assert "tests     (none declared)" in done.output
    assert [verified(objects, id).outcome for id in ("5.10", "6.1")] == [Outcome.PASSED] * 2
    assert not list(objects.root.glob(".bpfmatrix/results/*.json"))

    # What `matrix` ran is known.
    again = nox(objects, "-s", "pre-push")
    assert again.status == 0, again.output
    assert again.output.count("(cached, ") == 2
    assert verified(objects, "5.10").cached

    # 5.10 has no programs of this type. That the object says so itself does not count now.
    monkeypatch.setenv("BPFMATRIX_IGNORE_REQUIREMENTS", "1")
    rejected = nox(objects, "-s", "pre-push")
    assert rejected.status == 1
    assert "pre-push aborted: 5.10 verify failed" in rejected.output
    assert rejected.output.count("this kernel has no program type syscall") == 1
    assert verified(objects, "6.1").outcome is Outcome.PASSED

    entry = {"program": "sum_range", "kernels": ["5.10"], "reason": "it came with 5.14"}
    declare(objects, expect=[entry])
    expected = nox(objects, "-s", "kernel-5.10")
    assert expected.status == 0, expected.output


def test_tests_and_objects_run_side_by_side(objects: ToolProject) -> None:
    both = ("run", "--kernel", "6.1")
    objects.script("fine", "true")
    declare(objects, payload={"binaries": ["fine"]})
    done = objects.invoke(*both)
    assert done.status == 0, done.output
    assert "verify  passed  5 of 5 programs loaded" in done.output
    assert "tests   passed  1 test" in done.output

    objects.script("fine", "exit 3")
    assert objects.invoke(*both, "--only", "verify").status == 0
    failed = objects.invoke(*both)
    assert failed.status == 1
    assert "verify  passed" in failed.output
    assert objects.result().outcome is Outcome.FAILED
    before = Path(objects.root / ".bpfmatrix/verify/6.1.json").read_text()
    # The name of a test is for tests alone.
    alone = objects.invoke(*both, "--run", "fine")
    assert alone.status == 1
    assert "verify" not in alone.output
    assert (objects.root / ".bpfmatrix/verify/6.1.json").read_text() == before
    assert json.loads(before)["outcome"] == "passed"

"""`invoke bisect` on real kernels: those that the suites of kernels.yaml have now."""

import json
import os
import subprocess
from typing import Any

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.payload import ebpf
from tests.tool import REPOSITORY, ToolProject

pytestmark = pytest.mark.integration


@pytest.fixture
def three(project: ToolProject) -> ToolProject:
    project.configure(["5.10", "6.1", "6.12"])
    return project


@pytest.fixture(scope="module")
def bounded_loops() -> str:
    """The path of this repository's object bounded_loops, built."""
    objects = {path.name: path for path in ebpf.objects(Project.load(REPOSITORY)).files}
    return str(objects["bounded_loops.bpf.o"])


def bisected(project: ToolProject, *words: str) -> dict[str, Any]:
    env = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        project.command("bisect", "--good", "6.12", "--bad", "5.10", "--json", *words),
        cwd=project.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_bisect_finds_the_first_release_with_bpf_loop(
    three: ToolProject, bounded_loops: str
) -> None:
    # The object declares that it needs 5.17. Bisect must not rely on that.
    found = bisected(three, "--program", "sum_range", bounded_loops)
    assert found["first"] == {"kernel": "6.1", "answer": "good"}
    assert found["last"] == {"kernel": "5.10", "answer": "bad"}
    assert list(found["trials"]) == ["6.1", "5.10"]
    assert found["trials"]["6.1"]["version"].startswith("6.1.")
    assert found["trials"]["5.10"]["reason"].startswith("unsupported-program-type: ")
    assert found["not_offered"][0] == "5.11"
    assert found["not_offered"][-1] == "6.0"


def test_bisect_finds_the_first_release_on_which_a_command_works(three: ToolProject) -> None:
    # Linux has it since 5.19.
    found = bisected(three, "--", "grep", "-w", "bpf_kptr_xchg", "/proc/kallsyms")
    assert (found["first"]["kernel"], found["last"]["kernel"]) == ("6.1", "5.10")


def test_an_end_that_is_good_but_was_called_bad_is_an_error(three: ToolProject) -> None:
    done = three.invoke(
        "bisect", "--good", "5.10", "--bad", "6.1", "--", "test", "-e", "/sys/fs/bpf"
    )
    assert done.status == 1
    assert "error: 6.1 was given as bad, but it is good" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("x.o",), "x.o: say which program of it, with --program NAME"),
        (("--program", "p", "--run", "T"), "--program goes with objects"),
        (("--skipped", "maybe"), "--skipped maybe: expected one of good, bad, unknown"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    three: ToolProject, words: tuple[str, ...], said: str
) -> None:
    done = three.invoke("bisect", "--good", "6.1", "--bad", "5.10", *words)
    assert done.status == 2
    assert f"error: {said}" in done.output


def test_a_program_that_no_object_has_is_refused(three: ToolProject, bounded_loops: str) -> None:
    words = ("--program", "sum_rang", bounded_loops)
    done = three.invoke("bisect", "--good", "6.1", "--bad", "5.10", *words)
    assert done.status == 2
    assert "no object has such a program (did you mean" in done.output

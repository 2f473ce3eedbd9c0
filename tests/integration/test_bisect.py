"""`invoke bisect` on real kernels: those that the suites of kernels.yaml have now."""

import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from bpfmatrix import kernels
from bpfmatrix.config.project import Project
from bpfmatrix.host.versions import numbers
from bpfmatrix.kernels import releases
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
        project.command("bisect", "--json", *words),
        cwd=project.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_bisect_finds_the_ends_and_the_first_release_with_bpf_loop(
    three: ToolProject, bounded_loops: str
) -> None:
    # The object declares that it needs 5.17. Bisect must not rely on that.
    found = bisected(three, "--program", "sum_range", bounded_loops)
    first, last = found["first"]["kernel"], found["last"]["kernel"]
    # The suites keep several releases of a series; no older one of 6.1 is left untried.
    assert last == "5.10"
    assert numbers(first) == min(numbers(id) for id in found["kernels"] if id.startswith("6.1."))
    versions = {id: trial["version"] for id, trial in found["trials"].items()}
    assert found["answer"] == f"since {versions[first]} (not in {versions[last]})"
    assert {"6.12", "6.1"} <= set(found["trials"])
    assert found["trials"]["5.10"]["reason"].startswith("unsupported-program-type: ")
    assert found["not_offered"][0] == "5.11"
    assert found["not_offered"][-1] == "6.0"


def test_oldest_says_since_when_each_program_loads_and_why_not_before(
    three: ToolProject, bounded_loops: str
) -> None:
    found = bisected(three, "--oldest", bounded_loops)
    (program,) = found["programs"]
    assert (program["program"], program["not_in"]) == ("sum_range", "5.10")
    assert program["since"].startswith("6.1.")
    assert program["code"] == "unsupported-program-type"
    (line,) = found["objects"].values()
    assert re.fullmatch(r"loads since 6\.1\.\d+ \(not in 5\.10\.\d+\)", line)


@pytest.fixture
def two_of_a_series(project: ToolProject) -> tuple[str, str]:
    """A project whose only source is a folder with two releases of 6.1."""
    project.configure(["6.1"])
    declared = Project.load(project.root)
    found = releases.offered(declared.config, declared.cache)
    images: dict[str, None] = {}
    for id in (min(found.places, key=found.places.__getitem__), "6.1"):
        image, _ = kernels.provide(found.config.kernel(id), declared.cache)
        folder = project.root / "images" / image.version
        folder.mkdir(parents=True)
        shutil.copy(image.vmlinuz, folder / "vmlinuz")
        assert image.modules is not None
        shutil.copytree(image.modules, folder / "lib/modules" / image.release)
        images[image.version] = None
    old, new = images
    entries = {"kernels": {"series": {"source": {"directory": "images"}}}}
    payload = {"payload": {"ebpf": None, "go": None}}
    (project.root / "kernels.yaml").write_text(json.dumps({**payload, **entries}))
    return old, new


def test_a_change_between_two_releases_of_a_series_is_found(
    project: ToolProject, two_of_a_series: tuple[str, str]
) -> None:
    old, new = two_of_a_series
    done = project.invoke("bisect", "--", "grep", "-q", f"Debian {new}", "/proc/version")
    assert done.status == 0, done.output
    assert f"\nsince {new} (not in {old})\n" in done.output
    done = project.invoke("bisect", "--bad", new, "--", "false")
    assert done.status == 1
    assert f"works on none of 2 kernels: {old}, {new} ({new} was not tried, " in done.output


def test_bisect_finds_the_first_release_on_which_a_command_works(three: ToolProject) -> None:
    # Linux has it since 5.19.
    words = ("--", "grep", "-w", "bpf_kptr_xchg", "/proc/kallsyms")
    found = bisected(three, "--good", "6.12", "--bad", "5.10", *words)
    assert found["first"]["kernel"].startswith("6.1")
    assert found["last"]["kernel"] == "5.10"


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
        (("--oldest", "--run", "T"), "--oldest and --good don't go together"),
        (("--fresh",), "--fresh goes with --tree"),
        (("--skipped", "maybe"), "--skipped maybe: expected one of good, bad, unknown"),
        (("--tree", ".", "--build"), "--tree builds each kernel anyway"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    three: ToolProject, words: tuple[str, ...], said: str
) -> None:
    done = three.invoke("bisect", "--good", "6.1", "--bad", "5.10", *words)
    assert done.status == 2
    assert f"error: {said}" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("x.o", "--", "true"), "--oldest is about the programs of objects, and not about a comm"),
        (("x.o", "--skipped", "bad"), "--skipped goes with tests, and not with --oldest"),
    ],
)
def test_options_about_tests_do_not_go_with_oldest(
    three: ToolProject, words: tuple[str, ...], said: str
) -> None:
    done = three.invoke("bisect", "--oldest", *words)
    assert done.status == 2
    assert f"error: {said}" in done.output


def test_a_program_that_no_object_has_is_refused(three: ToolProject, bounded_loops: str) -> None:
    words = ("--program", "sum_rang", bounded_loops)
    done = three.invoke("bisect", "--good", "6.1", "--bad", "5.10", *words)
    assert done.status == 2
    assert "no object has such a program (did you mean" in done.output

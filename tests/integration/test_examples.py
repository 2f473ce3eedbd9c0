"""The example projects of docs/examples, each as a user would copy it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.rootfs.layouts import Layout
from tests.tool import REPOSITORY, ToolProject, plain_environment

pytestmark = [pytest.mark.integration, pytest.mark.projects]

EXAMPLES = REPOSITORY / "docs/examples"
KERNELS = ("5.10", "7.3")
Copy = Callable[[str], ToolProject]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copy an example to a folder of its own."""

    def copied(name: str) -> ToolProject:
        built = (".bpfmatrix", "__pycache__", "build", "target", "*.o", "*_bpfel.go", "*.skel.h")
        ignored = shutil.ignore_patterns(*built, "execs_test")
        folder = shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=ignored)
        return ToolProject(folder)

    return copied


def run(project: ToolProject, kernel: str, *options: str) -> tuple[str, KernelRun]:
    """Run an example's tests on a kernel; return what was printed, and the result."""
    done = project.invoke("run", "--kernel", kernel, *options)
    return done.output, project.result(kernel)


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.iterdir()))
def test_an_example_is_short(example: str) -> None:
    text = (EXAMPLES / example / "kernels.yaml").read_text()
    assert len(text.splitlines()) <= 12
    assert set(yaml.safe_load(text)["kernels"]) == set(KERNELS)


@pytest.mark.parametrize("kernel", KERNELS)
def test_testdata(copy: Copy, kernel: str) -> None:
    project = copy("testdata")
    output, result = run(project, kernel)
    packets = sorted(path.stem for path in (project.root / "filter/testdata").iterdir())
    assert result.outcome is Outcome.PASSED, output
    assert [test.name for test in result.tests] == [f"TestPackets/{name}" for name in packets]


def test_testdata_of_the_moment(copy: Copy) -> None:
    project = copy("testdata")
    packet = project.root / "filter/testdata/drop-dns.hex"
    packet.rename(packet.with_name("pass-dns.hex"))
    output, result = run(project, "7.3")
    assert result.outcome is Outcome.FAILED, output
    [failed] = [test for test in result.tests if test.outcome is Outcome.FAILED]
    assert failed.name == "TestPackets/pass-dns"
    assert "the verdict is 1, want pass" in failed.reason


@pytest.mark.parametrize("kernel", KERNELS)
def test_race(copy: Copy, kernel: str) -> None:
    output, result = run(copy("race"), kernel)
    assert result.outcome is Outcome.PASSED, output
    assert [test.name for test in result.tests] == ["TestManyReaders"]


def test_a_race_is_found(copy: Copy) -> None:
    project = copy("race")
    counter = project.root / "counter/counter.go"
    kept = [line for line in counter.read_text().splitlines() if "c.mutex" not in line]
    counter.write_text("\n".join(kept) + "\n")
    output, result = run(project, "7.3")
    assert result.outcome is Outcome.FAILED, output
    assert "data race" in result.tests[0].reason.lower()


@pytest.mark.parametrize("kernel", KERNELS)
def test_container(copy: Copy, debian: Layout, kernel: str) -> None:
    # The image of kernels.yaml is in a registry that this host may not reach. This one has Python
    # as well.
    output, result = run(copy("container"), kernel, "--rootfs", str(debian.folder))
    assert result.outcome is Outcome.PASSED, output
    bloom = Outcome.SKIPPED if kernel == "5.10" else Outcome.PASSED
    assert [(test.name, test.outcome) for test in result.tests] == [
        ("test_array_keeps_values", Outcome.PASSED),
        ("test_hash_is_full", Outcome.PASSED),
        ("test_bloom_filter", bloom),
    ]


@pytest.mark.parametrize(
    ("example", "tests"),
    [
        ("go", ["TestCounter"]),
        (
            "libbpf",
            [
                "on_exec is attached",
                "a child's programs are counted",
                "a process that starts none is not there",
            ],
        ),
        (
            "aya",
            ["a_process_that_starts_none_has_zero", "programs_of_a_child_are_counted"],
        ),
    ],
)
def test_a_counter_of_programs(copy: Copy, example: str, tests: list[str]) -> None:
    project = copy(example)
    done = project.invoke("matrix")
    assert done.status == 0, done.output
    for kernel in KERNELS:
        result = project.result(kernel)
        assert result.outcome is Outcome.PASSED, done.output
        # libtest runs its tests side by side.
        assert sorted(test.name for test in result.tests) == sorted(tests)


def test_the_results_of_two_machines_are_one_report(copy: Copy) -> None:
    project = copy("libbpf")
    (project.root / "artifacts").mkdir()
    for kernel in KERNELS:
        done = project.invoke("matrix", "--kernels", kernel)
        assert done.status == 0, done.output
        shutil.move(project.root / ".bpfmatrix/results", project.root / "artifacts" / kernel)
    report = project.invoke("report", "artifacts")
    assert "2 kernels, 3 tests, all passed" in report.output
    page = project.invoke("report", "--output", "report.html", "artifacts")
    assert (page.status, (project.root / "report.html").exists()) == (0, True)


def verified(project: ToolProject) -> tuple[int, dict[str, dict[str, tuple[str, str | None]]]]:
    """Verify an example's objects; return the exit status, and outcome and code of each program.

    They are by kernel, and then by object and program, as in `build/sum.bpf.o sum_up`.
    """
    subprocess.run(["make", "-s"], cwd=project.root, env=plain_environment(), check=True)
    done = project.invoke("verify")
    programs = {}
    for kernel in KERNELS:
        result = json.loads((project.root / f".bpfmatrix/verify/{kernel}.json").read_text())
        programs[kernel] = {
            f"{one['object']} {one['program']}": (one["outcome"], one["code"])
            for one in result["programs"]
        }
    return done.status, programs


def test_objects(copy: Copy) -> None:
    status, programs = verified(copy("objects"))
    assert status == 0
    assert {kernel: outcomes(found) for kernel, found in programs.items()} == {
        "5.10": {"build/execs.bpf.o on_exec": "passed", "build/sum.bpf.o sum_up": "skipped"},
        "7.3": {"build/execs.bpf.o on_exec": "passed", "build/sum.bpf.o sum_up": "passed"},
    }


def test_questions(copy: Copy) -> None:
    status, programs = verified(copy("questions"))
    assert status == 1
    on_both = {
        "build/loop.bpf.o on_exec": "too-complex",
        "build/unchecked.bpf.o on_exec": "verifier-rejected",
    }
    assert {kernel: codes(found) for kernel, found in programs.items()} == {
        "5.10": {
            **on_both,
            "build/bloom.bpf.o on_exec": "unsupported-map-type",
            "build/sum.bpf.o sum_up": "unsupported-helper",
        },
        "7.3": {
            **on_both,
            "build/fentry.bpf.o on_rename": "attach-target-missing",
            "build/field.bpf.o on_switch": "relocation-failed",
        },
    }


def test_what_ends_a_machine(copy: Copy) -> None:
    project = copy("questions")
    output, result = run(project, "7.3", "--binary", "crash.sh")
    assert result.outcome is Outcome.PANIC, output
    output, result = run(project, "7.3", "--binary", "wait.sh", "--timeout", "3s")
    assert result.outcome is Outcome.TIMEOUT, output


def test_rejection(copy: Copy) -> None:
    done = copy("rejection").invoke("verify")
    assert done.status == 1
    # Both kernels say the same, so it is told once.
    assert done.output.count("on_exec of bpf/execs.bpf.o: R0 invalid mem access") == 1
    assert "bpf/execs.bpf.c:22  *count += 1;" in done.output


def outcomes(programs: dict[str, tuple[str, str | None]]) -> dict[str, str]:
    """Return the outcome of each program."""
    return {name: outcome for name, (outcome, _) in programs.items()}


def codes(programs: dict[str, tuple[str, str | None]]) -> dict[str, str | None]:
    """Return the code of each program that failed."""
    return {name: code for name, (outcome, code) in programs.items() if outcome == "failed"}

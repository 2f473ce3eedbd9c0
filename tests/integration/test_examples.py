"""The example projects of docs/examples, each as a user would copy it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.rootfs.layouts import Layout
from tests.tool import REPOSITORY, ToolProject

pytestmark = [pytest.mark.integration, pytest.mark.projects]

EXAMPLES = REPOSITORY / "docs/examples"
KERNELS = ("5.10", "7.3")
Copy = Callable[[str], ToolProject]


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """Copy an example to a folder of its own."""

    def copied(name: str) -> ToolProject:
        ignored = shutil.ignore_patterns(".bpfmatrix", "__pycache__")
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

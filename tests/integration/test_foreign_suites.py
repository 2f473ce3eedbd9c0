"""Suites of other frameworks, as they are, in guests: each of their tests is a result."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.tool import ToolProject, plain_environment

pytestmark = [pytest.mark.integration, pytest.mark.projects]

PROJECTS = Path(__file__).parent / "projects"
PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED


def copied(name: str, folder: Path) -> ToolProject:
    ignored = shutil.ignore_patterns(".bpfmatrix", "__pycache__", "build")
    return ToolProject(shutil.copytree(PROJECTS / name, folder / name, ignore=ignored))


def outcomes(project: ToolProject, kernel: str) -> tuple[KernelRun, dict[str, Outcome]]:
    """Run the suite on a kernel; return the result, and the outcome of each test by its name."""
    done = project.invoke("run", "--kernel", kernel)
    assert done.status == 1, done.output
    result = project.result(kernel)
    assert result.outcome is FAILED, done.output
    return result, {test.name: test.outcome for test in result.tests}


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_pytest(tmp_path: Path, kernel: str) -> None:
    result, found = outcomes(copied("pytest_suite", tmp_path), kernel)
    module = "suite/test_kernel.py"
    assert found == {
        f"{module}::test_the_kernel_has[btf/vmlinux]": PASSED,
        f"{module}::test_the_kernel_has[debug/tracing]": PASSED,
        f"{module}::test_a_folder_in_bpffs": PASSED,
        f"{module}::test_a_file_system_with_delegation": SKIPPED if kernel == "5.10" else PASSED,
        f"{module}::TestRoot::test_is_root": PASSED,
        f"{module}::TestRoot::test_can_not_read": FAILED,
        f"{module}::test_fails": FAILED,
        f"{module}::test_has_an_error": FAILED,
    }
    tests = {test.name.rpartition("::")[2]: test for test in result.tests}
    assert tests["test_can_not_read"].expected == "root may read everything"
    assert "this suite is for Linux 2.4" in tests["test_fails"].reason
    assert "the fixture can't be set up" in tests["test_has_an_error"].reason


@pytest.mark.parametrize("kernel", ["5.10", "7.3"])
def test_googletest(tmp_path: Path, kernel: str) -> None:
    project = copied("gtest_suite", tmp_path)
    subprocess.run(["make", "-s"], cwd=project.root, env=plain_environment(), check=True)
    result, found = outcomes(project, kernel)
    kinds = {f"Kinds/MapTest.CanBeMade/{kind}": PASSED for kind in ("hash", "array", "lru")}
    bloom = SKIPPED if kernel == "5.10" else PASSED
    # A disabled test is no result, or one that was skipped.
    assert found.pop("Map.DISABLED_NotYet", SKIPPED) is SKIPPED
    assert found == {**kinds, "Map.IsFull": PASSED, "Map.BloomFilter": bloom, "Map.Fails": FAILED}
    [failed] = [test for test in result.tests if test.outcome is FAILED]
    assert "a map without entries" in failed.reason

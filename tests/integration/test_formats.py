"""Results of several kinds of runners, from a real kernel to the result."""

import shutil
import sys
from pathlib import Path

import pytest

from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.tool import ToolProject

pytestmark = pytest.mark.integration

SOURCES = Path(__file__).parents[1] / "suite/formats/sources"

TAP = """
echo "TAP version 13"; echo "1..4"; echo "ok 1 alpha"; echo "not ok 2 beta"; echo "# reason x"
echo "ok 3 gamma # SKIP no hw"; echo "not ok 4 delta # TODO"; exit 0
"""

# As testify and quicktest print it, each behind a log; and a test that reads nothing.
REASONS = r"""package p

import (
	"fmt"
	"os"
	"testing"
)

func TestTestify(t *testing.T) {
	fmt.Fprintln(os.Stderr, "level=INFO msg=\"all is well\"")
	t.Errorf("\n\tError Trace:\tp_test.go:9\n\tError:      \tReceived unexpected error:\n" +
		"\t            \tload program: permission denied\n")
	t.Log("and on it goes")
}

func TestQuicktest(t *testing.T) {
	t.Errorf("\nerror:\n  values are not equal\ngot:\n  0\nwant:\n  1\n")
}
"""

PANIC = """package p

import (
	"os"
	"testing"
)

func TestOne(t *testing.T) {}

func TestTwo(t *testing.T) {
	var p *int
	*p = 1
}

func TestThree(t *testing.T) {}

func TestMain(m *testing.M) {
	m.Run()
	os.Exit(3)
}
"""

EXITS = """package q

import (
	"os"
	"testing"
)

func TestOne(t *testing.T) {}

func TestMain(m *testing.M) { os.Exit(3) }
"""


def told(run: KernelRun) -> dict[tuple[str, str], str]:
    """Return the outcome of each test by its executable and its name, with the reasons."""
    return {
        (test.binary, test.name): " | ".join(
            filter(None, (str(test.outcome), test.reason, test.expected))
        )
        for test in run.tests
    }


def test_formats_are_detected_or_declared(project: ToolProject) -> None:
    project.script("tap", TAP)
    project.script("skip4", "echo 'SKIP: needs root'; exit 4")
    project.script("skip77", "exit 77")
    project.script("plain", "echo 1..1; exit 0")
    binaries = [
        "tap",
        {"path": "skip4", "format": "kselftest"},
        {"path": "skip77", "format": "automake"},
        {"path": "plain", "format": "plain"},
    ]
    project.configure(payload={"ebpf": None, "go": None, "binaries": binaries})
    done = project.invoke("run", "--kernel", "6.1")
    run = project.result()
    assert told(run) == {
        ("tap", "alpha"): "passed",
        ("tap", "beta"): "failed | reason x",
        ("tap", "gamma"): "skipped | no hw",
        ("tap", "delta"): "failed | not ok | TODO",
        ("skip4", "skip4"): "skipped | needs root",
        ("skip77", "skip77"): "skipped | exit status 77",
        ("plain", "plain"): "passed",
    }
    assert (run.outcome, run.reason) == (Outcome.FAILED, "beta: reason x")
    assert done.status == 1
    assert "reason x" in done.output


def test_the_report_of_pytest_comes_out_of_the_guest(project: ToolProject) -> None:
    shutil.copy(SOURCES / "pytest_suite.py", project.root / "test_maps.py")
    runner = project.root / "runner"
    runner.write_text(
        f"#!{sys.executable}\nimport sys, pytest\n"
        "sys.exit(pytest.main(['-p', 'no:cacheprovider', *sys.argv[1:]]))\n"
    )
    runner.chmod(0o755)
    tests = {"path": "runner", "format": "pytest", "args": ["test_maps.py"]}
    project.configure(
        payload={
            **{"ebpf": None, "go": None, "rootfs": "host", "folder": ".", "binaries": [tests]},
            "env": {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # they take long to import
        },
        timeout={"test": "1000s", "run": "1200s"},
    )
    project.invoke("run", "--kernel", "6.1")
    found = told(project.result())
    assert found["runner", "test_maps.py::TestMaps::test_passes"] == "passed"
    assert found["runner", "test_maps.py::test_odd[2]"] == (
        "failed | assert (2 % 2) (test_maps.py:22)"
    )
    assert found["runner", "test_maps.py::test_xfail"] == "failed | failed | known bug"
    assert len(found) == 11


def test_the_reason_of_a_go_test_and_what_never_ran(project: ToolProject) -> None:
    for package, text in (("reason", REASONS), ("panic", PANIC), ("exits", EXITS)):
        folder = project.root / package
        folder.mkdir()
        (folder / f"{package}_test.go").write_text(text)
    (project.root / "go.mod").write_text("module example.org/m\n\ngo 1.22\n")
    project.configure(payload={"ebpf": None, "go": {"module": ".", "tags": []}})
    project.invoke("run", "--kernel", "6.1")
    found = told(project.result())
    reason, panic, exits = (f"example.org/m/{name}" for name in ("reason", "panic", "exits"))
    assert found == {
        (reason, "TestTestify"): (
            "failed | Received unexpected error: load program: permission denied"
        ),
        (reason, "TestQuicktest"): "failed | values are not equal: got 0, want 1",
        (panic, "TestOne"): "passed",
        (panic, "TestTwo"): (
            "failed | panic: runtime error: invalid memory address or nil pointer dereference "
            "(panic_test.go:12)"
        ),
        (panic, panic): "failed | 1 test never ran: TestThree",
        (exits, exits): "failed | exit status 3; 1 test never ran: TestOne",
    }

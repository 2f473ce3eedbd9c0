"""Go packages in guests: names of packages, and what tests know of their sources and of Go."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.results.outcome import Outcome
from tests.tool import ToolProject

pytestmark = pytest.mark.integration

GO: dict[str, Any] = {"ebpf": None, "go": {"module": ".", "tags": []}}
TESTS = """package x

import (
	_ "embed"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

//go:embed testdata/f
var embedded string

func TestCaller(t *testing.T) {
	_, file, _, _ := runtime.Caller(0)
	if _, err := os.Stat(file); !filepath.IsAbs(file) || err != nil {
		t.Fatal(file, err)
	}
	if dir, _ := os.Getwd(); dir != filepath.Dir(file) {
		t.Fatalf("the working directory is %s, the source is %s", dir, file)
	}
	if os.Getenv("PWD") != filepath.Dir(file) {
		t.Fatalf("PWD is %s", os.Getenv("PWD"))
	}
}

func TestData(t *testing.T) {
	data, err := os.ReadFile("testdata/f")
	if err != nil || string(data) != embedded {
		t.Fatal(data, err, embedded)
	}
}

func TestGoroot(t *testing.T) {
	if runtime.GOROOT() == "" || runtime.GOROOT() != os.Getenv("GOROOT") {
		t.Fatal(runtime.GOROOT())
	}
}
"""
FAILS = """package x

import "testing"

func TestData(t *testing.T) { t.Run("sub", func(t *testing.T) { t.Error("the one of b") }) }
"""


def write(project: ToolProject, files: dict[str, str]) -> None:
    for place, text in {"go.mod": "module example.org/m\n\ngo 1.20\n", **files}.items():
        path = project.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_packages_of_one_base_name(project: ToolProject) -> None:
    write(project, {"a/x/x_test.go": TESTS, "a/x/testdata/f": "hi", "b/x/x_test.go": FAILS})
    project.configure(payload=GO)
    done, run = project.run()
    assert done.status == 1
    assert {(test.binary, test.name): test.outcome for test in run.tests} == {
        ("example.org/m/a/x", "TestCaller"): Outcome.PASSED,
        ("example.org/m/a/x", "TestData"): Outcome.PASSED,
        ("example.org/m/a/x", "TestGoroot"): Outcome.PASSED,
        ("example.org/m/b/x", "TestData/sub"): Outcome.FAILED,
    }
    assert run.reason == "b/x:TestData/sub: the one of b"
    assert "✓ a/x:TestData " in done.output
    assert "✗ b/x:TestData/sub " in done.output
    assert "run it alone  invoke run --kernel 6.1 --run b/x:TestData\n" in done.output
    logs = [".bpfmatrix/results/6.1/example.org/m/" + name for name in ("a/x.log", "b/x.log")]
    assert run.logs == tuple(logs)
    shown = project.invoke("logs", "--kernel", "6.1", "--test", "b/x").output
    assert "the one of b" in shown
    report = project.invoke("report", "--format", "junit").output
    assert 'name="TestData" classname="6_1' in report
    assert "example.org/m/a/x" in report
    assert "example.org/m/b/x" in report
    done, run = project.run(options=["--run", "a/x:TestData"])
    assert done.status == 0
    assert [(test.binary, test.name) for test in run.tests] == [("example.org/m/a/x", "TestData")]
    done = project.invoke("run", "--kernel", "6.1", "--run", "c:TestData")
    assert done.status != 0
    assert "no package is called 'c'" in done.output
    assert "There are: example.org/m/a/x, example.org/m/b/x." in done.output
    # A failure that is expected of one package is not expected of the other.
    project.expect(test="a/x:TestData", reason="known")
    assert project.run()[0].status == 1
    project.expect(test="b/x:TestData", reason="known")
    assert project.run(options=["--run", "b/x:"])[0].status == 0


@pytest.mark.parametrize("options", [(), ("--rootfs", "host")])
def test_a_package_runs_where_its_source_lies(
    project: ToolProject, options: tuple[str, ...]
) -> None:
    write(project, {"a/x/x_test.go": TESTS, "a/x/testdata/f": "hi"})
    project.configure(payload=GO)
    done, run = project.run(options=options)
    assert run.outcome is Outcome.PASSED, done.output
    assert [test.name for test in run.tests] == ["TestCaller", "TestData", "TestGoroot"]


def test_what_go_test_finds_in_path_is_found_in_the_host_s_root(project: ToolProject) -> None:
    text = """package x

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

func TestPath(t *testing.T) {
	if path, _ := exec.LookPath("gofmt"); path != filepath.Join(runtime.GOROOT(), "bin/gofmt") {
		t.Fatal(path)
	}
}
"""
    write(project, {"x/x_test.go": text})
    project.configure(payload=GO)
    done, run = project.run(options=["--rootfs", "host"])
    assert run.outcome is Outcome.PASSED, done.output


def test_a_race_is_detected_in_a_root_with_libraries(project: ToolProject) -> None:
    text = """package x

import "testing"

func TestRace(t *testing.T) {
	shared, done := 0, make(chan bool)
	go func() { shared++; done <- true }()
	shared++
	<-done
}
"""
    write(project, {"x/x_test.go": text})
    project.configure(payload={"ebpf": None, "go": {**GO["go"], "flags": ["-race"]}})
    done = project.invoke("run", "--kernel", "6.1")
    assert done.status == 1
    assert "is dynamically linked" in done.output
    assert "--rootfs host (rootfs: in kernels.yaml)" in done.output
    done, run = project.run(options=["--rootfs", "host"])
    [test] = run.tests
    assert (test.name, test.outcome) == ("TestRace", Outcome.FAILED), done.output
    assert "WARNING: DATA RACE" in test.output


def test_a_test_binary_that_was_built_elsewhere(project: ToolProject, tmp_path: Path) -> None:
    module = ToolProject(tmp_path / "module")
    text = """package x

import (
	"os"
	"testing"
)

func TestFile(t *testing.T) {
	t.Run("sub", func(t *testing.T) {
		if _, err := os.Stat("testdata/f"); err != nil {
			t.Fatal(err)
		}
	})
}
"""
    write(module, {"x_test.go": text})
    subprocess.run(
        ["go", "test", "-c", "-o", project.root / "built.test"],
        cwd=module.root,
        env={**os.environ, "CGO_ENABLED": "0"},
        check=True,
    )
    project.configure(payload={"ebpf": None, "go": None, "binaries": ["built.test"]})
    (project.root / "testdata").mkdir()
    (project.root / "testdata/f").write_text("hi")
    done, run = project.run()
    assert run.outcome is Outcome.PASSED, done.output
    assert [test.name for test in run.tests] == ["TestFile/sub"]
    assert run.tests[0].binary == "built"

"""Reports of a run on a real kernel, by the tasks that a user types."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.tool import ToolProject

pytestmark = pytest.mark.integration


def test_a_run_has_a_summary_in_ci_and_a_report_in_each_format(
    project: ToolProject, tmp_path: Path
) -> None:
    good, bad = project.script("good", "echo fine"), project.script("bad", "echo '<b>'; exit 3")
    summary = tmp_path / "summary.md"
    done = project.invoke(
        *("run", "--kernel", "6.1", "--binary", good, "--binary", bad),
        env={"GITHUB_STEP_SUMMARY": str(summary)},
    )
    assert done.status == 1
    page = summary.read_text()
    assert page.count("### ❌ 1 kernel, 2 tests") == 1
    assert "<pre>&lt;b&gt;" in page

    result = ".bpfmatrix/results/6.1.json"
    for words in (("--output", "all.xml"), ("--output", "all.json", result), ("--format", "html")):
        done = project.invoke("report", *words)
        assert done.status == 0, done.output
    root = ET.fromstring((project.root / "all.xml").read_text())
    failures = [
        case.attrib["name"] for case in root.iter("testcase") if case.find("failure") is not None
    ]
    assert failures == ["bad"]
    assert (project.root / ".bpfmatrix/report.html").stat().st_size > 10_000
    table = project.invoke("report", "all.json").output
    assert "bad" in table
    assert "✗" in table


def test_a_missing_file_and_an_unknown_format_are_named(project: ToolProject) -> None:
    files.write(KernelRun("6.1", Outcome.PASSED), project.root / ".bpfmatrix/results/6.1.json")
    done = project.invoke("report", "nothing.json")
    assert done.status == 2
    assert "nothing.json: No such file or directory" in done.output
    done = project.invoke("report", "--format", "htm")
    assert done.status == 2
    assert 'no such format (did you mean "html"?)' in done.output

"""The summary of a job on GitHub."""

from pathlib import Path

import pytest

from bpfmatrix.report import summary
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome

RUN = KernelRun("6.1", Outcome.PASSED, tests=(TestResult("t", "a", Outcome.PASSED),))


def test_each_run_is_appended_to_the_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    summary.write([RUN])
    summary.write([RUN])
    assert (tmp_path / "summary.md").read_text().count("### ✅ 1 kernel, 1 test, all passed") == 2


def test_a_summary_that_can_not_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no/folder"))
    summary.write([RUN])
    assert list(tmp_path.iterdir()) == []

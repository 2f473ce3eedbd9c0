"""What a sweep prints: what is new, what differs, and what to type next."""

import dataclasses
from datetime import UTC, datetime

import pytest

from bpfmatrix.cli.sweep_output import SweepConsole
from bpfmatrix.config.project import Project
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.sweep.differences import compared
from bpfmatrix.sweep.plan import Standing
from bpfmatrix.sweep.report import SweepReport, Swept
from bpfmatrix.sweep.state import Part
from tests.sweep import samples

SWEPT = (
    Swept("5.10", Standing.SAME, "5.10.262", "5.10.262"),
    Swept("6.1", Standing.MOVED, "6.1.192", "6.1.190"),
    Swept("7.4", Standing.NEW, "7.4.1", ""),
)
NOTHING = SweepReport(SWEPT, {"6.9": "there is no suite"}, ("a note",), {"6.3": "6.3.9"}, (), None)


def test_what_is_new_is_told_before_anything_runs(
    library_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    SweepConsole(library_project).begin(NOTHING)
    assert capsys.readouterr().out.splitlines() == [
        # There are results, but no sweep of all kernels has ended.
        "sweep   3 kernels, compared with sweeps of some kernels",
        "6.1   6.1.190 -> 6.1.192",
        "7.4   new: 7.4.1",
        "nothing new: 5.10",
        "6.9   is not available: there is no suite",
        "6.3 (6.3.9) is no longer offered by any source",
        "a note",
    ]


def test_a_first_sweep_says_so(
    library_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    new = SweepReport((SWEPT[2],), {}, (), {}, (), None)
    SweepConsole(library_project).begin(new)
    first = "sweep   1 kernel, the first sweep, with which later ones are compared"
    assert capsys.readouterr().out.splitlines()[0] == first


def test_a_regression_of_a_program_is_followed_by_what_to_type(
    library_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    before = samples.verification(samples.program("p"), kernel="6.1", version="6.1.192")
    broken = dataclasses.replace(
        samples.program("p", Outcome.FAILED), source="a.c:3", verifier_tail="R1 invalid"
    )
    now = samples.verification(broken, kernel="7.4", version="7.4.1")
    found = compared(Part.PROGRAMS, now, {"6.1": before})
    report = dataclasses.replace(NOTHING, compared=(found,))
    SweepConsole(library_project).report(report, library_project.config, ())
    assert capsys.readouterr().out.splitlines() == [
        "",
        "7.4.1  newly fails, compared with 6.1.192",
        "  ✗ a.o p  loaded, fails now: why",
        "      a.c:3",
        "      R1 invalid",
        # kernels.yaml does not declare 7.4.
        "    run it alone  invoke verify --available --kernels 7.4 a.o",
        "    since when    invoke bisect --program p a.o --good 6.1 --bad 7.4",
        "",
        "1 regression on 1 kernel",
    ]


def test_a_sweep_without_anything_new_says_since_when(
    library_project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    report = dataclasses.replace(NOTHING, swept_at=datetime(2026, 11, 26, 3, 17, tzinfo=UTC))
    SweepConsole(library_project).report(report, library_project.config, ())
    assert capsys.readouterr().out == "\nnothing new since 2026-11-26 03:17 UTC\n"

"""The console of tests and `verify` side by side, in a pipe: summaries, and one table."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from bpfmatrix.cli import console
from bpfmatrix.cli.console import SafeConsole
from bpfmatrix.cli.run import Results
from bpfmatrix.cli.run_choice import RunChoice
from bpfmatrix.cli.run_console import RunConsole
from bpfmatrix.config.models import Included
from bpfmatrix.config.project import Project
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import RefusedObject, Verification
from tests.sweep import samples

OLD, NEW = {"kernel": "5.10", "version": "5.10.262"}, {"kernel": "6.1", "version": "6.1.192"}
RUNS = [
    samples.run(samples.of_test("TestA"), samples.of_test("TestB", Outcome.FAILED), **OLD),
    samples.run(samples.of_test("TestA"), samples.of_test("TestB", Outcome.SKIPPED), **NEW),
]
VERIFIED = [
    samples.verification(samples.program("p"), samples.program("q", Outcome.FAILED), **OLD),
    samples.verification(samples.program("p"), samples.program("q"), **NEW),
]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the console prints if there is no terminal."""
    for name in ("GITHUB_ACTIONS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    written = io.StringIO()

    def into(_: bool = False, raw: bool = False) -> Console:
        made = SafeConsole(raw=raw)
        made.file, made.width = written, 120
        return made

    monkeypatch.setattr(console, "make_console", into)
    return written


def shown(
    project: Project,
    pipe: io.StringIO,
    *parts: Included,
    runs: list[KernelRun],
    verified: list[Verification],
    **choice: Any,
) -> str:
    """Finish these results in a console, and return what it printed."""
    ids = list(dict.fromkeys(one.kernel for one in (*runs, *verified)))
    with RunConsole(project, ids, RunChoice(parts, **{"is_asked": True, **choice})) as whole:
        for run in runs:
            assert whole.tests
            whole.tests.step(run.kernel, "kernel", run.version, "cached")
            whole.tests.finished(run)
        for one in verified:
            assert whole.programs
            whole.programs.step(one.kernel, "kernel", one.version, "cached")
            whole.programs.finished(one)
    whole.show(runs, verified, 4.6)
    return pipe.getvalue()


def row(text: str, name: str) -> list[str]:
    """Return the cells of a row of the table."""
    lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    assert len(lines) == 1, text
    return re.split(r"\s{2,}", lines[0].strip())[1:]


def test_one_table_has_a_row_for_each_part(library_project: Project, pipe: io.StringIO) -> None:
    text = shown(library_project, pipe, "verify", "tests", runs=RUNS, verified=VERIFIED)
    assert row(text, "verify") == ["✗ 1", "✓ 2"]
    assert row(text, "tests") == ["✗ 1", "✓ 1"]
    assert row(text, "skipped") == ["1"]
    assert "5.10.262    verify  failed  1 of 2 programs loaded, 1 failed" in text
    assert "5.10.262    tests   failed  1 test passed, 1 failed" in text
    # The program that did not load comes before the test that may have failed for it.
    assert text.index("5.10.262  q of a.o: why") < text.index("✗ TestB")


def test_without_declared_tests_the_table_says_so(
    library_project: Project, pipe: io.StringIO
) -> None:
    text = shown(library_project, pipe, "verify", runs=[], verified=VERIFIED, is_asked=False)
    lines = text.splitlines()
    assert "tests    (none declared)" in lines
    # It makes no column wider, and what is empty on all kernels has no row.
    assert "   5.10.262   6.1.192" in text
    assert "skipped" not in text
    assert row(text, "verify") == ["✗ 1", "✓ 2"]


def test_a_part_that_nobody_asked_for_has_no_row(
    library_project: Project, pipe: io.StringIO
) -> None:
    text = shown(library_project, pipe, "verify", runs=[], verified=VERIFIED)
    assert "tests" not in text


def test_one_kernel_has_a_summary_of_each_part_after_all_tests(
    library_project: Project, pipe: io.StringIO
) -> None:
    text = shown(library_project, pipe, "verify", "tests", runs=RUNS[:1], verified=VERIFIED[:1])
    assert text.count("5.10.262    verify  failed") == text.count("5.10.262    tests   failed") == 1
    # The kernel is prepared for both parts, which is told once.
    assert text.count("kernel  5.10.262") == 1
    assert text.index("tests   failed") < text.index("5.10.262  q of a.o: why")


def test_what_keeps_a_kernel_from_being_prepared_is_explained_once(
    library_project: Project, pipe: io.StringIO
) -> None:
    reason = "6.1: no such folder\nName another."
    run = KernelRun("6.1", Outcome.ERROR, reason)
    one = Verification("6.1", Outcome.ERROR, reason)
    text = shown(library_project, pipe, "verify", "tests", runs=[run], verified=[one])
    assert text.count("Name another.") == 1


REFUSED = Verification(
    "6.1",
    Outcome.PASSED,
    programs=(samples.program("p"),),
    refused=(RefusedObject("m.o", "no eBPF program: it has maps only"),),
)


ALL_SKIPPED = samples.verification(samples.program("p", Outcome.SKIPPED), **NEW)


@pytest.mark.parametrize(
    ("results", "status"),
    [
        (Results(RUNS[1:], [ALL_SKIPPED]), 0),
        (Results(RUNS[:1], [ALL_SKIPPED]), 1),
        (Results((), [ALL_SKIPPED]), 1),
        (Results(RUNS[1:], VERIFIED[1:]), 0),
        (Results(RUNS[:1], VERIFIED[1:]), 1),
        (Results(RUNS[1:], VERIFIED[:1]), 1),
        (Results((), VERIFIED[1:]), 0),
        (Results(RUNS[1:], [REFUSED]), 2),
        (Results(RUNS[:1], [REFUSED]), 1),
        (Results(RUNS[1:], [REFUSED], forgives_refused=True), 0),
        (Results(), 1),
    ],
)
def test_the_exit_status_is_that_of_all_parts(results: Results, status: int) -> None:
    assert results.exit_status == status


def test_problems_name_their_part() -> None:
    assert Results(RUNS, VERIFIED).problems == ["5.10 verify failed", "5.10 tests failed"]
    assert Results(RUNS).problems == ["5.10 failed"]


@pytest.mark.parametrize(
    ("results", "problems"),
    [
        (Results((), [ALL_SKIPPED]), ["6.1 verify skipped"]),
        (Results(RUNS[1:], [ALL_SKIPPED]), []),
        (Results((), [REFUSED]), ["1 file can't be loaded"]),
        (Results((), [REFUSED], forgives_refused=True), []),
    ],
)
def test_whatever_is_not_well_is_a_problem(results: Results, problems: list[str]) -> None:
    assert results.problems == problems
    assert bool(results.exit_status) == bool(problems)


@pytest.mark.parametrize(("interrupted", "count"), [(True, 1), (False, 0)])
def test_after_ctrl_c_the_kernels_that_had_not_begun_are_named(
    library_project: Project, pipe: io.StringIO, interrupted: bool, count: int
) -> None:
    whole = RunConsole(library_project, ["5.10", "6.1", "6.12"], RunChoice(("tests",), True))
    with whole:
        assert whole.tests
        whole.tests.finished(RUNS[0])
    whole.abort(interrupted=interrupted)
    assert pipe.getvalue().count("interrupted, not run: 6.1, 6.12\n") == count

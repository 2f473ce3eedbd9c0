"""The console of a verification: tables, explanations and comparisons, in a pipe."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.cli import console
from bpfmatrix.cli.verify_output import VerifyConsole
from bpfmatrix.cli.verify_tables import in_width
from bpfmatrix.config.project import Project
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import (
    Code,
    ProgramResult,
    Statistics,
    Verification,
    verdict,
)
from bpfmatrix.verify.compare import Change, against, costs


def loaded(program: str, insns: int = 1234, expected: str = "") -> ProgramResult:
    statistics = Statistics(instructions_processed=insns, instructions_limit=1_000_000)
    keys = {"expected": expected, "type": "kprobe", "statistics": statistics}
    return ProgramResult("ebpf/a b.o", program, Outcome.PASSED, **keys)  # type: ignore[arg-type]


def rejected(program: str, expected: str = "") -> ProgramResult:
    return ProgramResult(
        *("ebpf/a b.o", program, Outcome.FAILED),
        code=Code.VERIFIER_REJECTED,
        reason="R0 [bold]invalid[/]",
        verifier_tail="a.c:1  *count += 1;\nR0 [bold]invalid[/]",
        log=f"logs/{program}.log",
        expected=expected,
    )


def on(kernel: str, *results: ProgramResult) -> Verification:
    return Verification(kernel, *verdict(results), version=f"{kernel}.9", programs=results)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    written = io.StringIO()
    made = console.SafeConsole()
    made.file, made.width = written, 120
    monkeypatch.setattr(console, "make_console", lambda _=False, raw=False: made)
    return written


def show(project: Project, *found: Verification, statistics: bool = False) -> None:
    with VerifyConsole(project, [one.kernel for one in found]) as report:
        for one in found:
            report.finished(one)
    report.show(found, statistics)
    report.costs(costs(found))


def test_several_kernels_are_one_table(library_project: Project, shown: io.StringIO) -> None:
    show(
        library_project,
        on("5.10", loaded("one", 5000), rejected("two"), rejected("three", "known")),
        on("6.1", loaded("one"), rejected("two"), loaded("three", expected="known")),
    )
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert "program 5.10.9 6.1.9" in lines
    assert "one ✓ 5,000 ✓ 1,234" in lines
    assert "two ✗ rejected ✗ rejected" in lines
    assert "three ✗ rejected expected ✓ 1,234 unexpected" in lines
    assert "one costs 4.1 times as much on 5.10.9 (5,000 instructions) as on 6.1.9 (1,234)" in lines
    assert lines.count("5.10.9, 6.1.9 two of ebpf/a b.o: R0 [bold]invalid[/]") == 1
    assert "cost of its lines invoke verify 'ebpf/a b.o' --annotate two --kernel 5.10" in lines
    assert lines.count("code verifier-rejected") == 1
    assert not any(line.startswith("since when") for line in lines)


def test_a_failure_of_a_program_that_loads_elsewhere_names_the_bisection(
    library_project: Project, shown: io.StringIO
) -> None:
    show(library_project, on("5.10", rejected("two")), on("6.1", loaded("two")))
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    words = "--program two 'ebpf/a b.o' --good 6.1 --bad 5.10"
    assert f"since when invoke bisect {words}" in lines


def test_one_kernel_has_its_statistics(library_project: Project, shown: io.StringIO) -> None:
    show(library_project, on("6.1", loaded("one")))
    assert "0.1%" in shown.getvalue()
    assert "6.1.9       passed  1 of 1 program loaded" in shown.getvalue()


def test_a_large_table_leaves_out_what_loaded_on_every_kernel(
    library_project: Project, shown: io.StringIO
) -> None:
    fine = [loaded(f"program_{number}") for number in range(100)]
    show(library_project, on("5.10", *fine, rejected("odd")), on("6.1", *fine, loaded("odd")))
    assert "program_1" not in shown.getvalue()
    assert "odd" in shown.getvalue()
    assert "100 more programs, loaded on every kernel" in shown.getvalue()


def test_fifty_kernels_are_in_tables_of_the_terminals_width(
    library_project: Project, shown: io.StringIO
) -> None:
    show(library_project, *(on(f"6.{number}", loaded("one")) for number in range(50)))
    tables = [line for line in shown.getvalue().splitlines() if line.startswith("program ")]
    assert len(tables) > 3
    assert all(len(line) <= 120 for line in tables)
    named = [word for line in tables for word in line.split()[1:]]
    assert named == [f"6.{number}.9" for number in range(50)]


@given(st.lists(st.integers(1, 60), max_size=30), st.integers(-10, 200))
def test_each_column_is_in_one_table(widths: list[int], room: int) -> None:
    tables = list(in_width(widths, room))
    assert [number for table in tables for number in table] == list(range(len(widths)))
    for table in tables:
        assert len(table) == 1 or sum(widths[number] + 3 for number in table) <= room


def test_a_kernel_that_panicked_has_its_console_and_one_explanation(
    library_project: Project, shown: io.StringIO
) -> None:
    died = ProgramResult("a.o", "one", Outcome.PANIC, code=Code.KERNEL_DIED, reason="sysrq")
    rest = ProgramResult("a.o", "two", Outcome.ERROR, code=Code.NOT_RUN, reason="not run: sysrq")
    found = Verification(
        "6.1", Outcome.PANIC, "sysrq", programs=(died, rest), console="console.log"
    )
    show(library_project, found)
    text = shown.getvalue()
    assert "6.1  panic: sysrq" in text
    assert "console            console.log" in text
    assert "one of a.o: sysrq" in text
    assert "two of a.o" not in text


def test_regressions_come_first(library_project: Project, shown: io.StringIO) -> None:
    with VerifyConsole(library_project, ["6.1"]) as report:
        report.changes(
            "base.json",
            [Change("6.1", "a.o", "p", "new, loads"), Change("6.1", "a.o", "q", "fails now", True)],
        )
        report.changes("base.json", against([], [], 0.1))
    lines = shown.getvalue().splitlines()
    assert lines[1] == "compared with base.json: 1 regression, 1 other change"
    assert [line.split()[0] for line in lines[2:4]] == ["✗", "✓"]
    assert lines[-1] == "compared with base.json: no changes"

"""The console of a verification: tables, explanations and comparisons, in a pipe."""

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.cli import console
from bpfmatrix.cli.verify import OutputOptions, replay
from bpfmatrix.cli.verify_csv import as_csv
from bpfmatrix.cli.verify_output import VerifyConsole
from bpfmatrix.cli.verify_rows import make_rows
from bpfmatrix.cli.verify_tables import in_width, matrix_tables, statistics_tables
from bpfmatrix.config.project import Project
from bpfmatrix.results import files
from bpfmatrix.results.kernel_label import label_of
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import (
    Code,
    ProgramResult,
    RefusedObject,
    Statistics,
    Verification,
    exit_status,
    verdict,
)
from bpfmatrix.verify.compare import Change, against, costs
from bpfmatrix.verify.selection import Names, Selection, parse_sort


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


def show(
    project: Project,
    *found: Verification,
    statistics: bool = False,
    selection: Selection | None = None,
) -> None:
    with VerifyConsole(project, [one.kernel for one in found]) as report:
        for one in found:
            report.finished(one)
    report.show(found, statistics, selection or Selection())
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
    words = "debug --kernel 5.10 --object 'ebpf/a b.o' --program two --break rejection"
    assert f"where it stops invoke {words}" in lines
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


def of_object(number: int, *results: ProgramResult) -> list[ProgramResult]:
    return [dataclasses.replace(one, object=f"build/{number}.bpf.o") for one in results]


def failing(program: str, reason: str, code: Code = Code.RELOCATION_FAILED) -> ProgramResult:
    return ProgramResult("a.o", program, Outcome.FAILED, code=code, reason=reason)


def many(objects: int) -> list[ProgramResult]:
    """Return the results of objects with ten programs each, of which four fail for two reasons."""
    results: list[ProgramResult] = []
    for number in range(objects):
        results += of_object(
            number,
            *(loaded(f"fine_{count}", 10 * number + count) for count in range(6)),
            *(failing(f"bad_{count}", f"no type struct x{number} here") for count in range(3)),
            rejected(f"odd_{number}"),
        )
    return results


@pytest.mark.parametrize("kernels", [("6.1",), ("5.10", "6.1", "6.12")])
def test_hundreds_of_objects_fit_on_a_screen(
    library_project: Project, shown: io.StringIO, kernels: tuple[str, ...]
) -> None:
    show(library_project, *(on(kernel, *many(400)) for kernel in kernels))
    text = shown.getvalue()
    assert len(text.splitlines()) < 40
    assert "1600 programs did not load, for 2 reasons" in text
    assert "1200 programs  relocation-failed" in text
    assert "no type struct x… here" in text
    assert "0.bpf.o: bad_0, bad_1, bad_2; and 1197 more" in text
    assert "400 programs  verifier-rejected" in text
    assert ".bpfmatrix/verify/6.1.json" in text
    assert "--filter code==relocation-failed" in text
    if len(kernels) > 1:
        assert "1200 on 5.10.9, 1200 on 6.1.9, 1200 on 6.12.9" in text
    else:
        # What costs most is what is shown of what loaded.
        assert "fine_5" in text
        assert "fine_0" not in text


def test_statistics_of_many_programs_are_shown_if_they_are_asked_for(
    library_project: Project, shown: io.StringIO
) -> None:
    show(library_project, on("6.1", *many(10)), statistics=True)
    # Once in each of the blocks of columns.
    assert shown.getvalue().count("fine_0") == 10 * shown.getvalue().count("\nprogram ")


def test_what_is_selected_is_shown_whole_and_in_order(
    library_project: Project, shown: io.StringIO
) -> None:
    order = Selection((), parse_sort("insns"), 7)
    show(library_project, on("5.10", *many(50)), on("6.1", *many(50)), selection=order)
    rows = [line.split() for line in shown.getvalue().splitlines() if line.startswith("  fine_")]
    assert [row[0] for row in rows] == [f"fine_{count}" for count in (5, 4, 3, 2, 1, 0, 5)]
    assert rows[0][2] == "495"
    assert "7 of 500 programs" in shown.getvalue()
    assert "did not load, for" not in shown.getvalue()


def test_files_that_were_refused_are_named(library_project: Project, shown: io.StringIO) -> None:
    refused = (RefusedObject("a/text.o", "empty"), RefusedObject("b.o", "no ELF file"))
    found = dataclasses.replace(on("6.1", loaded("one")), refused=refused)
    show(library_project, found)
    assert shown.getvalue().endswith(
        "2 files can't be loaded\n  a/text.o: empty\n  b.o: no ELF file\n"
    )
    shown.truncate(0)
    several = [RefusedObject(f"{number}.o", "empty") for number in range(300)]
    show(library_project, dataclasses.replace(found, refused=(*several, *refused)))
    assert "301 files: empty\n    0.o, 1.o, 2.o, and 298 more" in shown.getvalue()
    assert "b.o: no ELF file" in shown.getvalue()


def test_loaders_that_disagree_have_a_row_each(
    library_project: Project, shown: io.StringIO
) -> None:
    def by(loader: str, result: ProgramResult) -> ProgramResult:
        return dataclasses.replace(result, loader=loader)

    both = [
        by(loader, result)
        for loader, result in (
            ("libbpf", loaded("same")),
            ("libbpf", loaded("differs")),
            ("aya", loaded("same")),
            ("aya", rejected("differs")),
        )
    ]
    small = dataclasses.replace(loaded("same"), preset="small", loader="aya")
    show(library_project, on("5.10", *both), on("6.1", *both, small))
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    assert lines.count("same ✓ 1,234 ✓ 1,234") == 1
    assert "differs (libbpf) ✓ 1,234 ✓ 1,234" in lines
    assert "differs (aya) ✗ rejected ✗ rejected" in lines
    assert "same (small) ✓ 1,234" in lines
    assert "5.10.9, 6.1.9 differs (aya) of ebpf/a b.o: R0 [bold]invalid[/]" in lines


def test_what_loaders_differ_about_is_shown_for_many_programs_too(
    library_project: Project, shown: io.StringIO
) -> None:
    programs = [f"p{number}" for number in range(80)]
    one = on(
        "6.1",
        *(dataclasses.replace(loaded(name), loader="libbpf") for name in programs),
        *(dataclasses.replace(loaded(name), loader="aya") for name in programs[1:]),
        dataclasses.replace(rejected("p0"), loader="aya"),
    )
    show(library_project, one)
    lines = [" ".join(line.split()) for line in shown.getvalue().splitlines()]
    start = lines.index("the loaders differ about 1 program")
    assert lines[start + 3 : start + 5] == ["p0 (libbpf) ✓ 1,234", "p0 (aya) ✗ rejected"]


def test_an_interrupted_run_says_what_was_not_run(
    library_project: Project, shown: io.StringIO
) -> None:
    untried = ProgramResult(
        *("a.o", "two", Outcome.INTERRUPTED), code=Code.NOT_RUN, reason="not run: interrupted"
    )
    programs = (loaded("one"), rejected("bad"), untried)
    found = Verification("6.1", Outcome.INTERRUPTED, "interrupted", programs=programs)
    show(library_project, found)
    text = shown.getvalue()
    assert "1 of 3 programs loaded, 1 failed, 1 not run" in text
    assert "bad of ebpf/a b.o: R0" in text
    assert "two of a.o" not in text


def test_a_pipe_is_told_how_far_it_is(library_project: Project, shown: io.StringIO) -> None:
    with VerifyConsole(library_project, ["6.1"]) as report:
        report.expect(3)
        report.tell()
        assert not shown.getvalue()
        report.result("6.1", loaded("one"))
        report.result("6.1", rejected("two"))
        report.tell()
        report.tell()
        (line,) = shown.getvalue().splitlines()
        assert line.startswith("load    2 of 3 programs, 1 failed, two ")
        report.result("6.1", loaded("three"))
        report.tell()
        assert len(shown.getvalue().splitlines()) == 2
        report.finished(on("6.1", loaded("one")))
        report.tell()
        assert len(shown.getvalue().splitlines()) == 2


def test_results_are_shown_again_without_a_machine(
    library_project: Project,
    shown: io.StringIO,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "base.json"
    files.save([on("5.10", *many(2)), on("6.1", *many(3))], path)
    output = OutputOptions(csv="-", selection=Selection(order=parse_sort("insns")))
    names = [Names(None, "fine_[45]"), Names("0*", None, deny=True)]
    assert replay(library_project, [path], names, output) == 0
    rows = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [(row["kernel"], row["file_name"], row["total_insns"]) for row in rows] == [
        ("6.1", "2.bpf.o", "25"),
        ("6.1", "2.bpf.o", "24"),
        ("5.10", "1.bpf.o", "15"),
        ("6.1", "1.bpf.o", "15"),
        ("5.10", "1.bpf.o", "14"),
        ("6.1", "1.bpf.o", "14"),
    ]
    assert "fine_5" in shown.getvalue()


def test_results_as_csv() -> None:
    refused = (RefusedObject("dir/text.o", "no ELF file, so no eBPF object"),)
    programs = (loaded("one"), rejected("two"), failing("three", 'a "b",\x1b[31m c'))
    found = [
        dataclasses.replace(on(kernel, *programs), refused=refused) for kernel in ("5.10", "6.1")
    ]
    text = as_csv(found, Selection())
    assert text.startswith("file_name,prog_name,verdict,duration,total_insns,total_states,")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["kernel"], row["prog_name"], row["verdict"]) for row in rows] == [
        ("5.10", "one", "success"),
        ("5.10", "two", "failure"),
        ("5.10", "three", "failure"),
        ("6.1", "one", "success"),
        ("6.1", "two", "failure"),
        ("6.1", "three", "failure"),
        ("", "", "failure"),
    ]
    assert (rows[0]["file_name"], rows[0]["object"]) == ("a b.o", "ebpf/a b.o")
    assert (rows[0]["total_insns"], rows[1]["total_insns"]) == ("1234", "")
    assert rows[1]["code"] == "verifier-rejected"
    assert rows[2]["reason"] == 'a "b", c'
    assert (rows[6]["object"], rows[6]["code"]) == ("dir/text.o", "bad-object")
    first = list(csv.DictReader(io.StringIO(as_csv(found, Selection((), (), 1)))))
    assert [row["prog_name"] for row in first] == ["one"]


def test_the_exit_status_of_refused_files_is_2_unless_something_failed() -> None:
    refused = (RefusedObject("a.o", "empty"),)
    good, bad = on("6.1", loaded("one")), on("6.12", rejected("one"))
    assert exit_status([good]) == 0
    assert exit_status([dataclasses.replace(good, refused=refused)]) == 2
    both = [dataclasses.replace(one, refused=refused) for one in (good, bad)]
    assert exit_status(both) == 1


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


def test_the_columns_of_one_release_are_told_apart(
    library_project: Project, shown: io.StringIO
) -> None:
    ids = ["6.1", "6.1-arm64", "6.1@user"]
    ones = [
        Verification(id, Outcome.PASSED, version="6.1.192", programs=(loaded("p"),)) for id in ids
    ]
    show(library_project, *ones)
    lines = [line.split() for line in shown.getvalue().splitlines()]
    head = lines.index(["program", "6.1.192", "(6.1.192)", "(6.1.192)"])
    assert lines[head - 1] == ["6.1-arm64", "6.1@user"]
    assert [cell for line in lines for cell in line].count("1,234") == 3


def test_github_gets_each_failure_once_at_its_line_of_c(
    library_project: Project, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(library_project.root.parent))
    bad = dataclasses.replace(rejected("two"), source="ebpf/a,1.bpf.c:83")
    outside = dataclasses.replace(rejected("three"), source="/usr/include/b.h:7")
    show(library_project, on("5.10", bad), on("6.1", bad, outside))
    annotations = [line for line in shown.getvalue().splitlines() if line.startswith("::error")]
    place = f"file={library_project.root.name}/ebpf/a%2C1.bpf.c,line=83"
    assert annotations == [
        f"::error {place}::5.10.9, 6.1.9: two of ebpf/a b.o: R0 [bold]invalid[/]",
        "::error::6.1.9: three of ebpf/a b.o: R0 [bold]invalid[/]",
    ]


def test_github_gets_one_annotation_for_a_kernel_that_did_not_boot(
    library_project: Project, shown: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    show(library_project, Verification("6.1", Outcome.PANIC, "oh no", version="6.1.9"))
    annotations = [line for line in shown.getvalue().splitlines() if line.startswith("::error")]
    assert annotations == ["::error::6.1.9 panic: oh no"]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_and_cut_no_name_and_no_number(width: int) -> None:
    names = ["on_exec", "handle_a_very_long_name_of_a_program_that_ends_in_exit_1", "on_fork"]
    ids = ["5.10", "6.1", "6.12-arm64-16k@user", *(f"6.{number}" for number in range(13, 27))]
    found = [on(id, *(loaded(name, 123_456) for name in names)) for id in ids]
    one = make_rows(found[:1])
    tables = [
        list(matrix_tables(found, make_rows(found), width, str)),
        list(statistics_tables(one, width, str)),
    ]
    for some in tables:
        for table in some:
            shown = console.SafeConsole()
            shown.width = width
            with shown.capture() as capture:
                shown.print(table)
            text = capture.get()
            assert max(len(line.rstrip()) for line in text.splitlines()) <= width
            assert "\N{HORIZONTAL ELLIPSIS}" not in text
            # A name that is too long continues in the next line.
            first = table.columns[0].max_width
            joined = "".join(line[:first].strip() for line in text.splitlines())
            assert all(name in joined for name in names)
    matrix = [column.header for table in tables[0] for column in table.columns]
    assert [str(text).splitlines()[0] for text in matrix if text != "program"] == [
        label.split()[0] for label in (label_of(one, ids) for one in found)
    ]


def test_after_ctrl_c_what_was_not_run_has_one_sign_and_kernels_are_named(
    library_project: Project, shown: io.StringIO
) -> None:
    reason = "not run: interrupted"
    two = ProgramResult("ebpf/a b.o", "two", Outcome.INTERRUPTED, code=Code.NOT_RUN, reason=reason)
    begun = Verification(
        *("6.1", Outcome.INTERRUPTED, "interrupted"), programs=(loaded("one"), two)
    )
    waiting = Verification("6.12", Outcome.INTERRUPTED, "interrupted before it began")
    show(library_project, begun, waiting)
    lines = [line.split("  ") for line in shown.getvalue().splitlines()]
    cells = {line[1]: [each.strip() for each in line[2:] if each] for line in lines if line[1:]}
    assert cells["one"] == ["✓ 1,234", "not run"]
    assert cells["two"] == ["not run", "not run"]
    assert "interrupted, not run: 6.12\n" in shown.getvalue()
    assert "✗ not-run" not in shown.getvalue()

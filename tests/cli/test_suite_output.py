"""The console of a run of the tests, in a pipe: lines, summaries, explanations, the matrix."""

import dataclasses
import io
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.text import Text

from bpfmatrix.cli import console
from bpfmatrix.cli.run_choice import TESTS
from bpfmatrix.cli.run_console import RunConsole
from bpfmatrix.cli.suite_output import SuiteConsole
from bpfmatrix.config.project import Project
from bpfmatrix.report.again import Again
from bpfmatrix.results.kernel_run import KernelRun, Leftover, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from tests.cli.conftest import into

PASSED = TestResult("b", "TestA", Outcome.PASSED, 0.11)
SKIPPED = TestResult("b", "TestB", Outcome.SKIPPED, 0, "needs 5.17")
FAILED = TestResult("b", "TestC/sub", Outcome.FAILED, 0, "no such map", "line 1\n[bold]line 2[/]\n")
GOOD = KernelRun("6.1", Outcome.PASSED, version="6.1.192", seconds=1.9, tests=(PASSED, SKIPPED))
BAD = KernelRun(
    "5.10",
    Outcome.FAILED,
    "TestC/sub: no such map",
    version="5.10.262",
    seconds=2.1,
    tests=(PASSED, FAILED),
    console=".bpfmatrix/results/5.10/console.log",
    logs=(".bpfmatrix/results/5.10/b.log",),
)


def suite_of(whole: RunConsole) -> SuiteConsole:
    """Return the observer of the tests."""
    assert whole.tests
    return whole.tests


def one_kernel(project: Project, run: KernelRun) -> None:
    with SuiteConsole(project, [run.kernel]) as report:
        report.doing(run.kernel, "kernel", "looking")
        report.step(run.kernel, "kernel", f"{run.version} [apt]", "cached")
        report.doing(run.kernel, "boot", "waiting", 0.5)
        report.step(run.kernel, "boot", "cold, tcg", "2.10 s")
        for test in run.tests:
            report.result(run.kernel, test)
        report.finished(run)


def test_in_a_pipe_each_line_comes_once(library_project: Project, pipe: io.StringIO) -> None:
    one_kernel(library_project, GOOD)
    lines = pipe.getvalue().splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"kernel  6\.1\.192 \[apt\] +cached", lines[0])
    assert re.fullmatch(r"boot    cold, tcg +2\.10 s", lines[1])
    assert re.fullmatch(r"  (✓|ok) TestA +0\.11 s", lines[2])
    assert re.fullmatch(r"  - TestB +skipped: needs 5\.17", lines[3])
    assert re.match(r"6\.1\.192 +passed ", lines[4])
    assert "\x1b" not in pipe.getvalue()


def test_a_failure_has_its_reason_output_files_and_next_commands(
    library_project: Project, pipe: io.StringIO
) -> None:
    one_kernel(library_project, BAD)
    text = pipe.getvalue()
    summary = text[text.index("5.10.262  failed: ") :]
    expected = [
        "5.10.262  failed: TestC/sub: no such map",
        "TestC/sub",
        "line 1",
        "[bold]line 2[/]",
        ".bpfmatrix/results/5.10/b.log",
        ".bpfmatrix/results/5.10/console.log",
        "invoke run --kernel 5.10 --run TestC",
    ]
    places = [summary.index(part) for part in expected]
    assert places == sorted(places)


def test_of_many_failures_ten_are_shown(library_project: Project, pipe: io.StringIO) -> None:
    tests = tuple(
        TestResult("b", f"T{n}", Outcome.FAILED, 0, "why", "x\n" * 200) for n in range(40)
    )
    one_kernel(library_project, KernelRun("6.1", Outcome.FAILED, "why", tests=tests))
    text = pipe.getvalue()
    assert "... and 30 more" in text
    assert "... 140 lines before" in text
    assert len(text.splitlines()) < 40 + 10 * 70


def test_a_panic_shows_the_console_from_the_panic_message_on(
    library_project: Project, pipe: io.StringIO
) -> None:
    log = library_project.root / "console.log"
    trace = "".join(f"[ 3.{n}] frame {n}\n" for n in range(40))
    log.write_text(f"[ 1.0] early\n[ 3.0] Kernel panic - not syncing: oh no\n{trace}")
    run = KernelRun("6.1", Outcome.PANIC, "panic: oh no", console="console.log")
    one_kernel(library_project, run)
    text = pipe.getvalue()
    assert "Kernel panic - not syncing: oh no" in text
    assert "frame 3\n" in text
    assert "early" not in text
    assert "frame 30" not in text


def test_a_lost_machine_shows_the_end_of_the_console(
    library_project: Project, pipe: io.StringIO
) -> None:
    (library_project.root / "c").write_text("".join(f"line {n}\n" for n in range(40)))
    one_kernel(library_project, KernelRun("6.1", Outcome.LOST, "lost", console="c"))
    assert "line 39\n" in pipe.getvalue()
    assert "line 20\n" not in pipe.getvalue()


@given(
    st.one_of(
        st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1),
        st.sampled_from(["[bold]", "[/]", "[red]x[/red]", "a\\[b]", "[link=x]", ":smile:", "\\"]),
    )
)
@example("\\[")
def test_any_name_and_reason_are_shown_as_they_are(text: str) -> None:
    written = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(console, "make_console", lambda _=False, raw=False: into(written, raw))
        patch.delenv("GITHUB_ACTIONS", raising=False)
        report = SuiteConsole(ANY_PROJECT, ["6.1"])
        report.step("6.1", "kernel", text, text)
        report.result("6.1", TestResult("b", text, Outcome.FAILED, 0, text, text))
    assert written.getvalue().count(text) >= 4


HOSTILE = (
    "\x1b[2J\x1b]0;owned\x1b\\",
    "::error::boo",
    "##vso[task.complete]",
    "##teamcity[x]",
    "\u202eabc",
)


def test_nothing_that_a_test_says_is_a_command(library_project: Project, tmp_path: Path) -> None:
    output = "\n".join(HOSTILE)
    test = TestResult("b", "Test\x1b[2JX", Outcome.FAILED, 0, output, output)
    run = KernelRun("6.1", Outcome.FAILED, f"{test.name}: {output}", tests=(test,))
    shown = {}
    for raw in (False, True):
        written = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                console, "make_console", lambda _=False, raw=False, to=written: into(to, raw)
            )
            patch.setenv("GITHUB_ACTIONS", "true")
            with RunConsole(library_project, ["6.1"], TESTS, raw=raw) as whole:
                report = suite_of(whole)
                report.result("6.1", test)
                report.finished(run)
                whole.show([run], (), 1.0)
        shown[raw] = written.getvalue()
    assert not re.search("[\x1b\x07\u202e]", shown[False])
    assert not re.search(r"##[a-z]*\[", shown[False])
    commands = [line for line in shown[False].splitlines() if line.lstrip().startswith("::")]
    # Its own ones, which GitHub needs.
    assert [line.split("::")[1] for line in commands] == ["group", "endgroup", "error"]
    assert ": :error::boo" in shown[False]
    assert all(text in shown[True] for text in HOSTILE)


def test_a_command_in_pieces_of_different_styles_is_none() -> None:
    written = io.StringIO()
    made = into(written)
    made.print(Text.assemble("  :", (":err", "red"), ("or::", "bold"), "x #", ("#[", "red"), "y]"))
    made.print("a\n::warning::b")
    assert written.getvalue() == "  : :error::x # #[y]\na\n: :warning::b\n"


# Printing a line uses nothing of the project.
ANY_PROJECT: Project = None  # type: ignore[assignment]


def test_github_gets_groups_and_an_annotation(
    library_project: Project, pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    one_kernel(library_project, KernelRun("6.1", Outcome.ERROR, "line 1\nline 2, 100%"))
    lines = pipe.getvalue().splitlines()
    assert lines[0].startswith("::group::")
    assert lines.count("::endgroup::") == 1
    [annotation] = [line for line in lines if line.startswith("::error")]
    # A workflow command is one line (docs: workflow commands, escaping).
    assert annotation.endswith("6.1 error: line 1%0Aline 2, 100%25")


def test_a_group_is_closed_whatever_happens(
    library_project: Project, pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(KeyError), SuiteConsole(library_project, ["6.1"]):
        raise KeyError
    assert pipe.getvalue().splitlines()[-1] == "::endgroup::"


def test_with_several_kernels_a_line_names_its_kernel_and_a_table_follows(
    library_project: Project, pipe: io.StringIO
) -> None:
    with RunConsole(library_project, ["5.10", "6.1"], TESTS) as whole:
        report = suite_of(whole)
        for run in (BAD, GOOD):
            report.step(run.kernel, "kernel", "x", "cached")
            for test in run.tests:
                report.result(run.kernel, test)
            report.finished(run)
        whole.show([BAD, GOOD], (), 4.6)
    text = pipe.getvalue()
    assert "TestA" not in text  # it passed
    assert re.search(r"^5\.10 .*TestC/sub +failed: no such map$", text, re.MULTILINE)
    assert re.search(r"^ +5\.10\.262 +6\.1\.192$", text.replace("  \n", "\n"), re.MULTILINE)
    assert "4.6 s" in text
    assert text.count("run it alone") == 1
    # The test that failed passed on no other kernel.
    assert "invoke bisect" not in text


def test_a_column_says_which_entry_of_kernels_yaml_it_is(
    library_project: Project, pipe: io.StringIO
) -> None:
    ids = ["6.1", "6.1-arm64", "6.1@user"]
    runs = [dataclasses.replace(GOOD, kernel=id) for id in ids]
    runs[1] = dataclasses.replace(runs[1], outcome=Outcome.FAILED, reason="no such map")
    with RunConsole(library_project, ids, TESTS) as whole:
        report = suite_of(whole)
        for run in runs:
            report.finished(run)
        whole.show(runs, (), 4.6)
    lines = [line.split() for line in pipe.getvalue().splitlines()]
    assert lines[:3] == [
        ["6.1.192", "passed", "1", "test,", "1", "skipped", "1.9", "s"],
        ["6.1-arm64", "(6.1.192)", "failed", "1", "test,", "1", "skipped", "1.9", "s"],
        ["6.1@user", "(6.1.192)", "passed", "1", "test,", "1", "skipped", "1.9", "s"],
    ]
    assert lines[4:6] == [["6.1-arm64", "6.1@user"], ["6.1.192", "(6.1.192)", "(6.1.192)"]]
    assert ["6.1-arm64", "(6.1.192)", "failed:", "no", "such", "map"] in lines


def test_a_test_that_is_still_running_is_a_line(
    library_project: Project, pipe: io.StringIO
) -> None:
    for kernels in (["6.1"], ["6.1", "6.12"]):
        with SuiteConsole(library_project, kernels) as report:
            report.still_running("6.1", "TestSlow/part", 30.01)
    one, several = pipe.getvalue().splitlines()
    assert re.fullmatch(r"    TestSlow/part +still running, 30 s", one)
    assert re.fullmatch(r"6\.1     TestSlow/part +still running, 30 s", several)


def test_the_live_line_of_several_kernels_says_what_passed(
    library_project: Project, pipe: io.StringIO
) -> None:
    with SuiteConsole(library_project, ["6.1", "6.12"]) as report:
        report.doing("6.1", "test", "TestA")
        assert "6.1   test    TestA  " in shown_live(report)
        report.result("6.1", PASSED)
        report.result("6.1", FAILED)
        report.doing("6.1", "test", "TestD")
        assert "6.1   test    1 test passed, TestD  " in shown_live(report)
    assert "TestA" not in pipe.getvalue()


def shown_live(report: SuiteConsole) -> str:
    """Return what a terminal shows of the tests that run."""
    with report.console.capture() as capture:
        report.console.print(report._progress_lines())
    return capture.get()


def test_a_failure_of_a_test_that_passed_elsewhere_names_the_bisection(
    library_project: Project, pipe: io.StringIO
) -> None:
    passed = TestResult("b", "TestC/sub", Outcome.PASSED)
    failed = TestResult("b", "TestC/sub", Outcome.FAILED, 0, "no such map")
    skipped = TestResult("b", "TestC", Outcome.SKIPPED, 0, "needs 6.3")
    runs = [
        KernelRun("5.10", Outcome.PASSED, arch="x86_64", tests=(passed,)),
        KernelRun("6.1", Outcome.FAILED, arch="x86_64", tests=(failed,)),
        KernelRun("6.6-arm64", Outcome.PASSED, arch="aarch64", tests=(passed,)),
        KernelRun("6.12", Outcome.PASSED, arch="x86_64", tests=(skipped, PASSED)),
        KernelRun("7.3", Outcome.PASSED, arch="x86_64", tests=(passed, PASSED)),
    ]
    with RunConsole(library_project, [run.kernel for run in runs], TESTS) as whole:
        report = suite_of(whole)
        for run in runs:
            report.finished(run)
        whole.show(runs, (), 1.0)
    assert "  since when    invoke bisect --run TestC --good 7.3 --bad 6.1\n" in pipe.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert console.make_console().no_color


def test_kernel_warnings_and_leftovers_are_shown(
    library_project: Project, pipe: io.StringIO
) -> None:
    warnings = tuple(KernelWarning(f"WARNING: {n}", (), "TestX", "known") for n in range(9))
    left = Leftover("b", "a kernel module was loaded: veth")
    one_kernel(library_project, dataclasses.replace(GOOD, warnings=warnings, leftovers=(left,)))
    text = pipe.getvalue()
    assert "9 kernel warnings\n" in text
    assert "WARNING: 0 (during TestX), as expected: known" in text
    assert "WARNING: 8" not in text
    assert "left behind by b: a kernel module was loaded: veth" in text


def test_tests_of_equal_names_are_shown_with_their_packages(
    pipe: io.StringIO, library_project: Project
) -> None:
    tests = (
        TestResult("example.org/m/a/x", "TestC/sub", Outcome.PASSED, 0.11),
        TestResult("example.org/m/b/x", "TestC/sub", Outcome.FAILED, 0, "no such map"),
        TestResult("example.org/m/b/y", "example.org/m/b/y", Outcome.FAILED, 0, "exit status 3"),
    )
    bad = KernelRun("6.1", Outcome.FAILED, "x", version="6.1.192", tests=tests)
    with SuiteConsole(library_project, ["6.1"]) as report:
        report.executables("6.1", [test.binary for test in tests])
        for test in tests:
            report.result("6.1", test)
        report.finished(bad)
    said = pipe.getvalue()
    for line in (
        r"  ✓ a/x:TestC/sub +0\.11 s",
        r"  ✗ b/x:TestC/sub +failed: no such map",
        r"  ✗ y +failed: exit status 3",
        r"  run it alone  invoke run --kernel 6\.1 --run b/x:TestC",
        r"  look inside   invoke debug --kernel 6\.1 --run b/x:TestC",
    ):
        assert re.search(f"^{line}$", said, re.M), line


def test_what_is_suggested_can_be_typed(pipe: io.StringIO, library_project: Project) -> None:
    tests = (TestResult("check maps.sh", "maps::full", Outcome.FAILED, 0, "no such map"),)
    again = Again((Path("build/check maps.sh"),))
    with SuiteConsole(library_project, ["6.1"], again) as report:
        report.executables("6.1", ["check maps.sh"])
        report.finished(KernelRun("6.1", Outcome.FAILED, "x", tests=tests))
    [line] = [line for line in pipe.getvalue().splitlines() if "run it alone" in line]
    words = shlex.split(line)
    assert words[words.index("--run") + 1] == "check maps.sh:"
    assert words[words.index("--binary") + 1] == "build/check maps.sh"


def test_a_kernel_on_which_the_same_test_of_another_package_passed_is_no_good_one(
    pipe: io.StringIO, library_project: Project
) -> None:
    def run(kernel: str, a: Outcome, b: Outcome) -> KernelRun:
        tests = (TestResult("m/a", "TestX", a), TestResult("m/b", "TestX", b))
        bad = Outcome.FAILED in (a, b)
        return KernelRun(kernel, Outcome.FAILED if bad else Outcome.PASSED, tests=tests)

    runs = [
        run("5.10", Outcome.PASSED, Outcome.FAILED),
        run("6.1", Outcome.PASSED, Outcome.PASSED),
        run("6.12", Outcome.PASSED, Outcome.FAILED),
    ]
    with RunConsole(library_project, [run.kernel for run in runs], TESTS) as whole:
        report = suite_of(whole)
        for one in runs:
            report.finished(one)
    whole.show(runs, (), 1.0)
    said = pipe.getvalue()
    assert "since when    invoke bisect --run b:TestX --good 6.1 --bad 5.10" in said
    assert "since when    invoke bisect --run b:TestX --good 6.1 --bad 6.12" in said


def test_only_the_logs_of_what_failed_are_named(
    pipe: io.StringIO, library_project: Project
) -> None:
    names = [f"m/{number}/x" for number in range(30)]
    tests = tuple(
        TestResult(name, "TestX", Outcome.FAILED if name == "m/7/x" else Outcome.PASSED)
        for name in names
    )
    logs = tuple(f".bpfmatrix/results/6.1/{name}.log" for name in names)
    one_kernel(library_project, KernelRun("6.1", Outcome.FAILED, "x", tests=tests, logs=logs))
    said = re.findall(r"full output +(.*)", pipe.getvalue())
    assert said == [".bpfmatrix/results/6.1/m/7/x.log"]

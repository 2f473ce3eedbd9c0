"""The front of the page: the verdict, what it means, and what failed, as the template gets it."""

from typing import Any

from bpfmatrix.report.front import front
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.report.origin import ReportOrigin
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification, verdict


def run(kernel: str, *tests: TestResult, warnings: tuple[KernelWarning, ...] = ()) -> Result:
    failed = any(test.outcome is Outcome.FAILED and not test.expected for test in tests)
    outcome = Outcome.FAILED if failed else Outcome.PASSED
    return Result(KernelRun(kernel, outcome, tests=tests, warnings=warnings))


def verified(kernel: str, *programs: ProgramResult) -> Result:
    return Result(Verification(kernel, *verdict(programs), programs=programs))


def of(*results: Result) -> dict[str, Any]:
    return front(Matrix.of(results), ReportOrigin("agent", "main", "1a2b3c4d"))


PASSED = TestResult("t", "TestA", Outcome.PASSED)


def test_all_passed_says_what_ran_where() -> None:
    skipped = TestResult("t", "TestB", Outcome.SKIPPED)
    known = TestResult("t", "TestC", Outcome.FAILED, expected="issue 12")
    shown = of(run("6.1", PASSED, skipped, known), run("7.3", PASSED))
    assert (shown["title"], shown["verdict"]) == ("agent, main at 1a2b3c4d", "All passed")
    assert shown["meaning"] == (
        "3 tests ran on 6.1, 7.3: 2 passed, 1 failed as kernels.yaml expects, 1 skipped."
    )
    assert shown["items"] == []


def test_many_kernels_are_counted() -> None:
    shown = of(*(run(f"6.{number}", PASSED) for number in range(17)))
    assert shown["meaning"].startswith("1 test ran on 17 kernels: 17 passed.")


def test_a_failure_shows_the_verifiers_words_with_the_rejected_line_marked() -> None:
    rejected = ProgramResult(
        *("bpf/a.o", "on_exec", Outcome.FAILED),
        code=Code.VERIFIER_REJECTED,
        reason="R0 invalid mem access 'scalar'",
        source="bpf/a.bpf.c:58",
        verifier_tail="bpf/a.bpf.c:57  x = f();\nbpf/a.bpf.c:58  return *x;\n"
        "  3: r0 = *r1\nR0 invalid",
    )
    shown = of(verified("5.10", rejected), verified("6.1", rejected), run("7.3", PASSED))
    assert shown["verdict"] == "1 failure on 2 of 3 kernels"
    [item] = shown["items"]
    assert (item.name, item.group, item.kernels) == ("on_exec", "bpf/a.o", "5.10, 6.1")
    assert [(line.place, line.text, line.is_rejected) for line in item.lines] == [
        ("a.bpf.c:57", "  x = f();", False),
        ("a.bpf.c:58", "  return *x;", True),
        ("", "  3: r0 = *r1", False),
        ("", "R0 invalid", False),
    ]


def test_the_verdict_counts_kernels() -> None:
    def verdict_of(count: int) -> str:
        bad = ProgramResult("a.o", "p", Outcome.FAILED, code=Code.MISSING_BTF)
        return str(of(*(verified(f"6.{number}", bad) for number in range(count)))["verdict"])

    assert verdict_of(1) == "1 failure on 1 kernel"
    assert verdict_of(2) == "1 failure on both kernels"
    assert verdict_of(3) == "1 failure on all 3 kernels"


def test_programs_that_one_line_of_source_fails_are_one_item() -> None:
    programs = [
        ProgramResult("a.o", name, Outcome.FAILED, code=Code.RELOCATION_FAILED, source="a.c:9")
        for name in ("ipv4", "ipv6")
    ]
    [item] = of(verified("6.1", *programs))["items"]
    assert item.name == "ipv4, ipv6"


def test_many_programs_without_more_than_a_code_share_an_item() -> None:
    programs = [
        ProgramResult("a.o", f"p{number}", Outcome.FAILED, code=Code.ATTACH_TARGET_MISSING)
        for number in range(5)
    ]
    [item] = of(verified("6.1", *programs))["items"]
    assert item.name == "5 programs"
    assert [member.name for member in item.members] == ["p0", "p1", "p2", "p3", "p4"]


def test_warnings_and_unexpected_passes_are_notes_with_their_kernels() -> None:
    warning = KernelWarning("WARNING: x")
    lucky = TestResult("t", "TestB", Outcome.PASSED, expected="issue 12")
    shown = of(*(run(kernel, lucky, warnings=(warning,)) for kernel in ("6.1", "7.3")))
    assert shown["notes"] == [
        "TestB passed, although kernels.yaml expects: issue 12 (on 6.1, 7.3)",
        "kernel warning: WARNING: x (on 6.1, 7.3)",
    ]


def test_the_legend_explains_what_the_cells_have() -> None:
    meanings = [each["meaning"] for each in of(run("6.1", PASSED), run("7.3"))["legend"]]
    assert meanings == ["passed", "blank: not run on this kernel"]

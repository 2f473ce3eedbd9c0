"""What failed: each failure once, with its kernels, in an order that shows the cause first."""

from bpfmatrix.report.failures import Failure, failures, named_kernels
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Kind, Result
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification, verdict


def program(
    name: str, code: Code = Code.VERIFIER_REJECTED, source: str = "", reason: str = "bad access"
) -> ProgramResult:
    return ProgramResult("a.o", name, Outcome.FAILED, code=code, source=source, reason=reason)


def verified(kernel: str, *programs: ProgramResult) -> Result:
    return Result(Verification(kernel, *verdict(programs), programs=programs))


def ran(kernel: str, *tests: TestResult) -> Result:
    bad = [test.outcome for test in tests if test.outcome is not Outcome.PASSED]
    return Result(KernelRun(kernel, bad[0] if bad else Outcome.PASSED, tests=tests))


def of(*results: Result) -> list[Failure]:
    return failures(Matrix.of(results))


def kernels(failure: Failure) -> list[str]:
    return [column.label for column in failure.columns]


def test_a_failure_that_is_the_same_on_several_kernels_is_one() -> None:
    [found] = of(*(verified(kernel, program("p")) for kernel in ("6.1", "5.10", "7.3")))
    assert kernels(found) == ["5.10", "6.1", "7.3"]


def test_other_reasons_and_other_lines_of_source_are_other_failures() -> None:
    found = of(
        verified("5.10", program("p", source="a.c:1")),
        verified("6.1", program("p", source="a.c:2")),
        verified("6.6", program("p", reason="too large", source="a.c:1")),
    )
    assert [kernels(one) for one in found] == [["5.10"], ["6.1"], ["6.6"]]


def test_a_kernel_that_does_not_say_the_line_shows_that_of_another() -> None:
    [found] = of(verified("5.10", program("p")), verified("6.1", program("p", source="a.c:2")))
    assert kernels(found) == ["5.10", "6.1"]
    assert (found.cell.source, found.shown.label) == ("a.c:2", "6.1")


def test_kernels_come_first_then_tests_then_what_the_verifier_rejected() -> None:
    found = of(
        Result(KernelRun("6.18", Outcome.ERROR, "no network")),
        ran("6.1", TestResult("t", "TestX", Outcome.FAILED)),
        verified("6.1", program("a", Code.MISSING_BTF), program("b")),
    )
    assert [one.row and one.row.name for one in found] == [None, "TestX", "b", "a"]


def test_a_run_that_failed_beside_its_rows_is_a_failure_and_others_are_explained_by_them() -> None:
    lost = KernelRun(
        "6.1", Outcome.LOST, "QEMU died", tests=(TestResult("t", "a", Outcome.PASSED),)
    )
    [found] = of(Result(lost))
    assert (found.row, found.cell.outcome, found.cell.reason) == (None, Outcome.LOST, "QEMU died")
    [found] = of(ran("6.1", TestResult("t", "a", Outcome.PANIC)))
    assert found.row is not None
    assert found.row.kind is Kind.TEST


def test_expected_failures_are_none() -> None:
    assert of(ran("6.1", TestResult("t", "a", Outcome.PASSED))) == []
    known = KernelRun(
        "6.1", Outcome.PASSED, tests=(TestResult("t", "a", Outcome.FAILED, expected="issue 1"),)
    )
    assert of(Result(known)) == []


def test_many_kernels_are_named_by_those_that_are_missing() -> None:
    test = TestResult("t", "a", Outcome.PASSED)
    columns = Matrix.of(ran(f"6.{number}", test) for number in range(9)).columns
    assert named_kernels(columns[:2], columns) == "6.0, 6.1"
    assert named_kernels(columns, columns) == "all 9 kernels"
    assert named_kernels(columns[1:], columns) == "all but 6.0"
    assert named_kernels(columns[:3], columns[:3]) == "6.0, 6.1, 6.2"

"""The matrix of a report: its rows, its columns and their labels."""

from hypothesis import given

from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Kind, Result, Row
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from tests.report.samples import several


def run(
    kernel: str, *names: str, version: str = "", name: str = "", arch: str = "x86_64"
) -> Result:
    tests = tuple(TestResult("t", test, Outcome.PASSED) for test in names)
    return Result(
        KernelRun(kernel, Outcome.PASSED, version=version, arch=arch, tests=tests), name=name
    )


def labels(*results: Result) -> list[str]:
    return [column.label for column in Matrix.of(results).columns]


@given(several)
def test_no_result_is_lost_and_each_column_has_its_own_label(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    kept = [result for column in matrix.columns for result in column.results]
    assert sorted(map(id, kept)) == sorted(map(id, results))
    count = sum(
        len(r.run.tests if isinstance(r.run, KernelRun) else r.run.programs) for r in results
    )
    assert sum(len(column.cells) for column in matrix.columns) == count
    names = [column.label for column in matrix.columns]
    assert len(set(names)) == len(names)
    assert set(matrix.rows) == {row for column in matrix.columns for row in column.cells}
    assert list(matrix.rows) == sorted(
        matrix.rows, key=lambda r: (r.kind is Kind.PROGRAM, r.group, r.name)
    )
    bad = [result for result in results if result.run.outcome is not Outcome.PASSED]
    assert matrix.passed is (bool(results) and not bad)


def test_columns_are_in_the_order_of_releases() -> None:
    found = [
        run(id, "a", version=v)
        for id, v in [
            ("7.3", "7.3.4"),
            ("5.10", "5.10.262"),
            ("6.1", "6.1.9"),
            ("6.2", ""),
            ("lts", ""),
        ]
    ]
    assert labels(*found) == ["5.10.262", "6.1.9", "6.2", "7.3.4", "lts"]


def test_tests_and_programs_of_a_kernel_share_its_column() -> None:
    programs = (ProgramResult("a.o", "p", Outcome.FAILED, code=Code.TOO_COMPLEX),)
    verified = Result(
        Verification("6.1", Outcome.FAILED, version="6.1.9", arch="x86_64", programs=programs)
    )
    matrix = Matrix.of([run("6.1", "a", version="6.1.9"), verified])
    [column] = matrix.columns
    assert matrix.rows == (Row(Kind.TEST, "t", "a"), Row(Kind.PROGRAM, "a.o", "p"))
    assert column.outcome is Outcome.FAILED
    assert column.cells[matrix.rows[1]].code == "too-complex"


def test_shards_of_a_run_share_a_column_but_two_runs_do_not() -> None:
    one, two = run("6.1", "a", name="x/6.1.json"), run("6.1", "b", name="y/6.1.json")
    assert labels(one, two) == ["6.1"]
    assert labels(one, two, one) == ["6.1 x86_64 x/6.1.json", "6.1 x86_64 x/6.1.json #2"]
    again = run("6.1", "a", name="z/6.1.json")
    assert labels(one, again) == ["6.1 x86_64 x/6.1.json", "6.1 x86_64 z/6.1.json"]


def test_columns_of_two_architectures_name_them() -> None:
    found = [
        run("6.1", "a", version="6.1.9"),
        run("6.1-arm64", "a", version="6.1.9", arch="aarch64"),
    ]
    assert sorted(labels(*found)) == ["6.1-arm64 (6.1.9)", "6.1.9"]


def test_a_kernel_that_was_not_booted_hides_no_other_result() -> None:
    error = Result(KernelRun("6.1", Outcome.ERROR, "no network"))
    assert len(Matrix.of([error, error]).columns) == 2


def test_two_objects_of_one_name_stay_two() -> None:
    programs = tuple(
        ProgramResult("a.o", "p", outcome) for outcome in (Outcome.PASSED, Outcome.FAILED)
    )
    matrix = Matrix.of([Result(Verification("6.1", Outcome.FAILED, programs=programs))])
    assert [row.name for row in matrix.rows] == ["p", "p (2)"]


def test_tests_of_equal_names_in_two_packages_are_two_rows_with_their_own_logs() -> None:
    packages = ("m/x", "m/a/x")
    tests = tuple(TestResult(package, "TestX", Outcome.PASSED) for package in packages)
    logs = tuple(f".bpfmatrix/results/6.1/{package}.log" for package in packages)
    matrix = Matrix.of([Result(KernelRun("6.1", Outcome.PASSED, tests=tests, logs=logs))])
    [column] = matrix.columns
    assert {row.group: cell.log for row, cell in column.cells.items()} == dict(
        zip(packages, logs, strict=True)
    )
    assert {row.name for row in matrix.rows} == {"TestX"}


def test_a_kernel_that_was_not_booted_for_one_part_has_one_column() -> None:
    failed = Result(KernelRun("6.1", Outcome.ERROR, "no tests", arch="x86_64"))
    program = ProgramResult("a.o", "p", Outcome.PASSED)
    loaded = Result(
        Verification("6.1", Outcome.PASSED, version="6.1.192", arch="x86_64", programs=(program,))
    )
    for results in ([failed, loaded], [loaded, failed]):
        (column,) = Matrix.of(results).columns
        assert (column.label, column.outcome) == ("6.1.192", Outcome.ERROR)
    # Which of two releases it would have been is not known.
    assert labels(failed, loaded, run("6.1", "a", version="6.1.190")) == [
        "6.1",
        "6.1.190",
        "6.1.192",
    ]

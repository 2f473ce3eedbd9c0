"""The table of the terminal, as plain text."""

from hypothesis import given

from bpfmatrix.report import table
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from tests.report.samples import several


@given(several)
def test_a_table_shows_every_kernel(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    text = table.to_text(matrix)
    assert "\x1b" not in text
    for column in matrix.columns:
        assert str(column.outcome) in text


def test_the_columns_of_one_release_are_told_apart() -> None:
    ids = ["6.1", "6.1-arm64", "6.1@user"]
    runs = [KernelRun(id, Outcome.PASSED, version="6.1.192") for id in ids]
    lines = [line.split() for line in table.to_text(Matrix.of(map(Result, runs))).splitlines()]
    assert lines[:2] == [["6.1-arm64", "6.1@user"], ["6.1.192", "(6.1.192)", "(6.1.192)"]]

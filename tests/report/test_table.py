"""The table of the terminal, as plain text."""

from hypothesis import given

from bpfmatrix.report import table
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from tests.report.samples import several


@given(several)
def test_a_table_shows_every_kernel(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    text = table.to_text(matrix)
    assert "\x1b" not in text
    for column in matrix.columns:
        assert str(column.outcome) in text

"""Reports by the names of their formats: the JSON of merged results."""

import json
from pathlib import Path

import pytest
from hypothesis import given

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.report import formats, inputs
from bpfmatrix.report.model import Kind, Result
from tests.report.samples import several


@given(several.filter(bool))
def test_merged_results_are_read_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, results: list[Result]
) -> None:
    path = tmp_path_factory.getbasetemp() / "merged.json"
    path.write_text(formats.render("json", results))
    again = inputs.read([path])
    found = {kind: [r.run for r in results if r.kind is kind] for kind in Kind}
    assert [result.run for result in again] == [*found[Kind.TEST], *found[Kind.PROGRAM]]
    assert json.loads(formats.render("json", again)) == json.loads(path.read_text())


@pytest.mark.parametrize("path", ["folder", "file/report.json"])
def test_a_report_that_can_not_be_written_is_an_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("as it was")
    with pytest.raises(BpfmatrixError, match=f"--output {tmp_path / path}: "):
        formats.write("json", [], tmp_path / path)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "as it was"


@pytest.mark.parametrize(
    ("output", "format"),
    [
        *(("", "table"), ("report", "table"), ("r.txt", "table"), ("r.HTML", "html")),
        *(("r.xml", "junit"), ("/dev/stdout", "table")),
    ],
)
def test_the_suffix_of_the_output_chooses_the_format(output: str, format: str) -> None:
    assert formats.choose("", output) == format


def test_a_suffix_of_no_format_is_refused_unless_the_format_is_named() -> None:
    with pytest.raises(UsageError, match=r"^--output x\.pdf: no format has the suffix \.pdf\n"):
        formats.choose("", "x.pdf")
    assert formats.choose("html", "x.pdf") == "html"

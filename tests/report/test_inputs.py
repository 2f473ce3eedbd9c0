"""Results read from files and folders."""

import json
from pathlib import Path

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.report import inputs
from bpfmatrix.report.model import Kind
from bpfmatrix.results import files
from tests.report.samples import RUN, VERIFIED, artifact


def test_results_are_found_in_all_subfolders(tmp_path: Path) -> None:
    found = inputs.read([artifact(tmp_path / "of/ci")])
    assert [result.kind for result in found] == [Kind.TEST, Kind.PROGRAM]
    assert [result.run for result in found] == [RUN, VERIFIED]


def test_other_json_files_in_a_folder_are_ignored(tmp_path: Path) -> None:
    artifact(tmp_path)
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    assert len(inputs.read([tmp_path])) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a file of results"),
        ("[]", "it has no kernel"),
        ("[" * 100_000, "not a file of results"),
        ("null", "it has no kernel"),
        ('{"schema": 1}', "it has no kernel"),
        ('{"schema": 1, "runs": 5}', "it has no kernel"),
        ('{"schema": 1, "runs": [5]}', "not of schema 1"),
        ('{"kernel": "6.1", "schema": 99}', "not of schema 1"),
        ('{"kernel": "6.1", "schema": 1}', "outcome is missing"),
        ('{"kernel": 5, "schema": 1, "outcome": "passed"}', "kernel can't have this value"),
        ('{"kernel": "6.1", "schema": 1, "outcome": "fine"}', "outcome can't have this value"),
        (
            '{"kernel": "6.1", "schema": 1, "outcome": "passed", "tests": [7]}',
            "tests.0 can't have this value",
        ),
        (
            '{"kernel": "6.1", "schema": 1, "outcome": "passed", "programs": {"a": 1}}',
            "programs can't have this value",
        ),
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        inputs.read([path])
    assert str(path) in caught.value.what
    assert why in caught.value.what


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no\.json: No such file"):
        inputs.read([tmp_path / "no.json"])
    with pytest.raises(UsageError, match="no results in this folder"):
        inputs.read([tmp_path])


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "6.1.json"
    files.write(RUN, path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}))
    [run] = inputs.read([path])
    assert run.run == RUN


def test_a_saved_file_of_several_kernels_is_read(tmp_path: Path) -> None:
    files.save([VERIFIED, VERIFIED], tmp_path / "base.json")
    assert len(inputs.read([tmp_path / "base.json"])) == 2

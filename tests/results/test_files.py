"""The files of results: written, read back, and refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.results import checked, files, kernel_run
from bpfmatrix.results.kernel_run import KernelRun, Leftover, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from bpfmatrix.results.verification import Verification
from tests.verify.strategies import verifications

TEXT = st.text(max_size=20)
TESTS = st.builds(TestResult, TEXT, TEXT, st.sampled_from(Outcome), st.floats(0, 1e6), TEXT, TEXT)
RUNS = st.builds(
    KernelRun,
    TEXT,
    st.sampled_from(Outcome),
    TEXT,
    provenance=st.dictionaries(TEXT, TEXT),
    seconds=st.floats(0, 1e6),
    tests=st.lists(TESTS, max_size=3).map(tuple),
    logs=st.lists(TEXT, max_size=3).map(tuple),
    warnings=st.lists(
        st.builds(KernelWarning, TEXT, st.lists(TEXT, max_size=2).map(tuple), TEXT, TEXT),
        max_size=2,
    ).map(tuple),
    leftovers=st.lists(st.builds(Leftover, TEXT, TEXT), max_size=2).map(tuple),
)


@given(RUNS)
def test_a_run_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, run: KernelRun
) -> None:
    path = tmp_path_factory.getbasetemp() / "results" / "6.1.json"
    files.write(run, path)
    assert files.read_run(path) == run
    assert [file.name for file in path.parent.iterdir()] == ["6.1.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"schema": 0}', '{"schema": 99}'])
def test_a_file_without_a_run_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "6.1.json"
    path.write_text(content)
    with pytest.raises(ValueError):  # noqa: PT011 - from json, or for the schema
        files.read_run(path)


def test_a_file_has_its_schema_and_outcomes_as_words(tmp_path: Path) -> None:
    path = tmp_path / "6.1.json"
    files.write(KernelRun("6.1", Outcome.PANIC, "why"), path)
    data = json.loads(path.read_text())
    assert data["schema"] == kernel_run.SCHEMA
    assert (data["kernel"], data["outcome"], data["reason"]) == ("6.1", "panic", "why")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verification=verifications)
def test_a_verification_is_read_back_as_it_was_written(
    tmp_path: Path, verification: Verification
) -> None:
    files.write(verification, tmp_path / "6.1.json")
    assert files.read_verification(tmp_path / "6.1.json") == verification


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(several=st.lists(verifications, max_size=3))
def test_saved_verifications_are_read_back_as_they_were_written(
    tmp_path: Path, several: list[Verification]
) -> None:
    files.save(several, tmp_path / "base.json")
    assert checked.read_saved(tmp_path / "base.json") == several


def test_the_file_of_one_kernel_is_read_as_a_saved_file(tmp_path: Path) -> None:
    one = Verification("6.1", Outcome.PASSED)
    files.write(one, tmp_path / "6.1.json")
    assert checked.read_saved(tmp_path / "6.1.json") == [one]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"schema": 99},
        {"schema": 1},
        {"schema": 1, "kernel": "6.1", "outcome": "fine", "programs": [], "maps": []},
        {"schema": 1, "kernel": "6.1", "outcome": "passed", "programs": [1], "maps": []},
        {"schema": 1, "kernel": "6.1", "outcome": "passed", "programs": [], "maps": [], "x": 1},
    ],
)
def test_data_that_is_no_verification_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"base\.json|fine"):
        files.parse_verification(data, "base.json")

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results import files, kernel_run
from bpfmatrix.results.kernel_run import KernelRun, TestResult, exit_status, verdict
from bpfmatrix.results.outcome import Outcome

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
)


@given(RUNS)
def test_a_result_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, run: KernelRun
) -> None:
    path = tmp_path_factory.getbasetemp() / "results" / "6.1.json"
    files.write(run, path)
    assert files.read_run(path) == run
    assert [file.name for file in path.parent.iterdir()] == ["6.1.json"]


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"schema": 0}', '{"schema": 99}'])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "6.1.json"
    path.write_text(content)
    with pytest.raises(ValueError):  # noqa: PT011 - of JSON, or of the schema
        files.read_run(path)


def test_the_file_names_its_schema_and_outcomes_as_words(tmp_path: Path) -> None:
    path = tmp_path / "6.1.json"
    files.write(KernelRun("6.1", Outcome.PANIC, "why"), path)
    data = json.loads(path.read_text())
    assert data["schema"] == kernel_run.SCHEMA
    assert (data["kernel"], data["outcome"], data["reason"]) == ("6.1", "panic", "why")


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ([], (Outcome.ERROR, "no test ran")),
        ([("A", "passed")], (Outcome.PASSED, "")),
        ([("A", "passed"), ("B", "skipped")], (Outcome.PASSED, "")),
        (
            [("A", "skipped", "needs 5.17")],
            (Outcome.SKIPPED, "every test was skipped, the first one: needs 5.17"),
        ),
        ([("A", "passed"), ("B", "failed", "why")], (Outcome.FAILED, "B: why")),
        (
            [("B", "failed", "why"), ("C", "failed", "x"), ("D", "failed")],
            (Outcome.FAILED, "B and 2 more: why"),
        ),
        (
            [("B", "failed", "why"), ("C", "timeout", "limit")],
            (Outcome.TIMEOUT, "C: limit"),
        ),
    ],
)
def test_the_verdict_of_a_run(tests: list[tuple[str, ...]], expected: tuple[Outcome, str]) -> None:
    found = [TestResult("b", name, Outcome(word), 0, *why) for name, word, *why in tests]
    assert verdict(found) == expected


@given(st.lists(TESTS, max_size=4))
def test_a_run_passes_only_where_a_test_passed_and_none_failed(tests: list[TestResult]) -> None:
    outcome, reason = verdict(tests)
    bad = [t for t in tests if t.outcome not in (Outcome.PASSED, Outcome.SKIPPED)]
    if outcome is Outcome.PASSED:
        assert not bad
        assert any(test.outcome is Outcome.PASSED for test in tests)
    else:
        assert reason


@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_pass_is_a_pass(outcome: Outcome) -> None:
    run, passed = KernelRun("6.1", outcome), KernelRun("6.12", Outcome.PASSED)
    assert exit_status([passed, run]) == (0 if outcome is Outcome.PASSED else 1)


def test_nothing_run_is_no_pass() -> None:
    assert exit_status([]) == 1


def test_counts_and_failures() -> None:
    tests = tuple(TestResult("b", outcome, outcome) for outcome in Outcome)
    run = KernelRun("6.1", Outcome.FAILED, tests=tests)
    assert run.count(Outcome.PASSED) == 1
    assert {t.name for t in run.failures} == set(Outcome) - {Outcome.PASSED, Outcome.SKIPPED}

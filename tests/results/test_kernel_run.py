"""The verdict of a run, and the exit status of several."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.kernel_run import KernelRun, TestResult, exit_status, verdict
from bpfmatrix.results.outcome import Outcome

TEXT = st.text(max_size=20)
TESTS = st.builds(TestResult, TEXT, TEXT, st.sampled_from(Outcome), st.floats(0, 1e6), TEXT, TEXT)


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
def test_a_run_passes_only_if_a_test_passed_and_none_failed(tests: list[TestResult]) -> None:
    outcome, reason = verdict(tests)
    bad = [t for t in tests if t.outcome not in (Outcome.PASSED, Outcome.SKIPPED)]
    if outcome is Outcome.PASSED:
        assert not bad
        assert any(test.outcome is Outcome.PASSED for test in tests)
    else:
        assert reason


@pytest.mark.parametrize("outcome", Outcome)
def test_the_exit_status_is_0_only_if_all_runs_passed(outcome: Outcome) -> None:
    run, passed = KernelRun("6.1", outcome), KernelRun("6.12", Outcome.PASSED)
    assert exit_status([passed, run]) == (0 if outcome is Outcome.PASSED else 1)


def test_the_exit_status_without_any_run_is_1() -> None:
    assert exit_status([]) == 1


def test_failures_are_all_tests_that_neither_passed_nor_were_skipped() -> None:
    tests = tuple(TestResult("b", outcome, outcome) for outcome in Outcome)
    run = KernelRun("6.1", Outcome.FAILED, tests=tests)
    assert run.count(Outcome.PASSED) == 1
    assert {t.name for t in run.failures} == set(Outcome) - {Outcome.PASSED, Outcome.SKIPPED}

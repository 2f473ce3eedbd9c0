import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from bpfmatrix.results.verification import Verification
from bpfmatrix.sweep.differences import Difference, Effect, base_of, compared
from bpfmatrix.sweep.state import Part, Result
from tests.sweep import samples

FAILED, PASSED, SKIPPED = Outcome.FAILED, Outcome.PASSED, Outcome.SKIPPED


def differences(now: Result, *last: Result) -> tuple[Difference, ...]:
    part = Part.TESTS if isinstance(now, KernelRun) else Part.PROGRAMS
    return compared(part, now, {one.kernel: one for one in last}).differences


def older(*tests: TestResult) -> KernelRun:
    return samples.run(*tests, version="6.1.190", digest="sha256:a")


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (samples.of_test("T"), samples.of_test("T"), None),
        (samples.of_test("T", FAILED), samples.of_test("T", FAILED), None),
        (samples.of_test("T", SKIPPED), samples.of_test("T", SKIPPED), None),
        (samples.of_test("T"), samples.of_test("T", FAILED), Effect.REGRESSION),
        (samples.of_test("T"), samples.of_test("T", Outcome.TIMEOUT), Effect.REGRESSION),
        (samples.of_test("T"), samples.of_test("T", FAILED, expected="known"), Effect.OTHER),
        (samples.of_test("T", SKIPPED), samples.of_test("T", FAILED), Effect.REGRESSION),
        (samples.of_test("T", FAILED, "known"), samples.of_test("T", FAILED), Effect.REGRESSION),
        (samples.of_test("T", FAILED), samples.of_test("T"), Effect.FIX),
        (samples.of_test("T", FAILED, "known"), samples.of_test("T", expected="known"), Effect.FIX),
        (samples.of_test("T", FAILED), samples.of_test("T", Outcome.TIMEOUT), Effect.OTHER),
        (samples.of_test("T"), samples.of_test("T", SKIPPED), Effect.OTHER),
        (None, samples.of_test("T", FAILED), Effect.REGRESSION),
        (None, samples.of_test("T", FAILED, expected="known"), Effect.OTHER),
        (None, samples.of_test("T"), Effect.OTHER),
        (samples.of_test("T"), None, Effect.OTHER),
    ],
)
def test_a_test_is_compared_with_itself_on_the_older_release(
    before: TestResult | None, after: TestResult | None, effect: Effect | None
) -> None:
    other = samples.of_test("Other")
    now = samples.run(other, *([after] if after else []))
    found = differences(now, older(other, *([before] if before else [])))
    assert [one.effect for one in found] == ([effect] if effect else [])
    assert all((one.group, one.name) == ("m", "T") for one in found)


def test_a_regression_has_its_reason_and_its_result() -> None:
    now = samples.run(samples.of_test("T", FAILED))
    (found,) = differences(now, older(samples.of_test("T")))
    assert found.text == "passed before, failed now: why"
    assert found.result == now.tests[0]


def test_of_several_results_of_one_test_the_one_that_failed_counts() -> None:
    now = samples.run(samples.of_test("T"), samples.of_test("T", FAILED), samples.of_test("T"))
    (found,) = differences(now, older(samples.of_test("T")))
    assert found.effect is Effect.REGRESSION


def test_without_any_earlier_sweep_each_failure_that_is_not_expected_counts() -> None:
    now = samples.run(
        samples.of_test("A"),
        samples.of_test("B", FAILED),
        samples.of_test("C", FAILED, expected="known"),
    )
    (found,) = differences(now)
    assert (found.name, found.effect, found.text) == ("B", Effect.REGRESSION, "failed: why")


def test_a_new_series_is_compared_with_the_next_older_one_of_its_architecture() -> None:
    now = samples.run(samples.of_test("T", FAILED), kernel="7.4", version="7.4.1")
    last = {
        id: samples.run(samples.of_test("T"), kernel=id, version=version, arch=arch)
        for id, version, arch in (
            ("6.1", "6.1.192", "x86_64"),
            ("7.3", "7.3.4", "x86_64"),
            ("7.3@user", "7.3.9", "x86_64"),
            ("7.3-arm64", "7.3.8", "aarch64"),
            ("7.5", "7.5.1", "x86_64"),
            ("odd", "", "x86_64"),
        )
    }
    base = base_of(now, last)
    assert base is not None
    assert base.kernel == "7.3"
    (found,) = differences(now, *last.values())
    assert found.effect is Effect.REGRESSION
    still = samples.run(samples.of_test("T", FAILED), kernel="7.3", version="7.3.4")
    assert differences(now, still) == ()


def test_a_kernel_that_panics_is_a_regression_and_tests_that_did_not_run_are_none() -> None:
    before = older(samples.of_test("A"), samples.of_test("B"))
    now = dataclasses.replace(
        samples.run(samples.of_test("A")), outcome=Outcome.PANIC, reason="panic after 1 test: oh"
    )
    (found,) = differences(now, before)
    assert (found.effect, found.name) == (Effect.REGRESSION, "")
    assert found.text == "panic: panic after 1 test: oh"
    assert differences(now, now) == ()


@pytest.mark.parametrize("outcome", [Outcome.ERROR, Outcome.LOST, Outcome.TIMEOUT])
def test_a_kernel_that_ran_and_now_can_not_be_run_is_a_regression(outcome: Outcome) -> None:
    now = dataclasses.replace(samples.run(), outcome=outcome, reason="why")
    assert [one.effect for one in differences(now, older(samples.of_test("A")))] == [
        Effect.REGRESSION
    ]


def test_a_warning_of_the_kernel_is_a_regression_though_no_test_failed() -> None:
    warned = dataclasses.replace(
        samples.run(samples.of_test("A")),
        outcome=FAILED,
        reason="the kernel warned",
        warnings=(KernelWarning("WARNING: x"),),
    )
    (found,) = differences(warned, older(samples.of_test("A")))
    assert (found.effect, found.text) == (Effect.REGRESSION, "failed: the kernel warned")
    assert differences(warned, warned) == ()


def test_programs_are_compared_as_verify_does() -> None:
    before = samples.verification(
        samples.program("same"),
        samples.program("breaks"),
        samples.program("works", FAILED),
        samples.program("grows"),
        samples.program("known"),
        version="6.1.190",
    )
    now = samples.verification(
        samples.program("same"),
        samples.program("breaks", FAILED),
        samples.program("works"),
        samples.program("grows", insns=2000),
        samples.program("known", FAILED, expected="known"),
    )
    found = {one.name: one for one in differences(now, before)}
    assert {name: one.effect for name, one in found.items()} == {
        "breaks": Effect.REGRESSION,
        "works": Effect.FIX,
        "grows": Effect.OTHER,  # which `verify --against` calls a regression
        "known": Effect.OTHER,
    }
    assert found["breaks"].result == now.programs[1]


def test_a_program_whose_expectation_has_ended_is_a_regression() -> None:
    before = samples.verification(samples.program("p", FAILED, expected="until 6.1.191"))
    now = samples.verification(samples.program("p", FAILED), samples.program("q"))
    found = {one.name: one for one in differences(now, before)}
    assert found["p"].effect is Effect.REGRESSION
    assert found["p"].text == "failed as expected before, fails now: why"
    assert found["q"].effect is Effect.OTHER


def test_programs_of_a_first_sweep_count_if_they_do_not_load() -> None:
    now = samples.verification(
        samples.program("a"), samples.program("b", FAILED), samples.program("c", FAILED, "known")
    )
    (found,) = differences(now)
    assert (found.name, found.effect) == ("b", Effect.REGRESSION)


def test_a_new_series_of_programs_is_compared_with_the_older_one() -> None:
    before = samples.verification(samples.program("p"), kernel="7.3", version="7.3.4")
    now = samples.verification(samples.program("p", FAILED), kernel="7.4", version="7.4.1")
    (found,) = differences(now, before)
    assert found.text == "loaded, fails now: why"


def test_a_kernel_on_which_no_program_could_be_loaded_any_more_is_a_regression() -> None:
    before = samples.verification(samples.program("p"))
    now = Verification("6.1", Outcome.ERROR, "why", arch="x86_64")
    assert [one.effect for one in differences(now, before)] == [Effect.REGRESSION]


OUTCOMES = st.sampled_from([PASSED, FAILED, SKIPPED, Outcome.TIMEOUT])
TESTS = st.dictionaries(
    st.sampled_from("ABCD"), st.tuples(OUTCOMES, st.sampled_from(["", "known"])), min_size=1
)


@given(TESTS, TESTS)
def test_a_regression_is_what_fails_and_did_not_fail_before(
    before: dict[str, tuple[Outcome, str]], after: dict[str, tuple[Outcome, str]]
) -> None:
    now = samples.run(*(samples.of_test(name, *how) for name, how in after.items()))
    last = older(*(samples.of_test(name, *how) for name, how in before.items()))
    found = differences(now, last)
    broken = {one.name for one in found if one.effect is Effect.REGRESSION}
    failing = {
        name for name, (how, known) in after.items() if how not in (PASSED, SKIPPED) and not known
    }
    failed = {
        name for name, (how, known) in before.items() if how not in (PASSED, SKIPPED) and not known
    }
    assert broken - {""} == failing - failed
    # A whole kernel is named only if no test explains it.
    assert "" not in broken
    assert differences(now, now) == ()

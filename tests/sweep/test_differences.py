import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
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


def died(outcome: Outcome, *tests: TestResult) -> KernelRun:
    return dataclasses.replace(samples.run(*tests), outcome=outcome, reason="why it ended")


KNOWN = samples.of_test("Known", FAILED)
# What the last sweep had beside a test A that passed: nothing, or a test that failed, too.
BESIDE: list[tuple[TestResult, ...]] = [(), (KNOWN,)]


@pytest.mark.parametrize("beside", BESIDE)
def test_a_kernel_that_panics_is_a_regression_and_tests_that_did_not_run_are_none(
    beside: tuple[TestResult, ...],
) -> None:
    before = older(*beside, samples.of_test("A"), samples.of_test("B"))
    now = died(Outcome.PANIC, *beside, samples.of_test("A"))
    (found,) = differences(now, before)
    assert (found.effect, found.name) == (Effect.REGRESSION, "")
    assert found.text == "panic: why it ended"
    assert differences(now, now) == ()


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("outcome", [Outcome.PANIC, Outcome.ERROR, Outcome.LOST, Outcome.TIMEOUT])
def test_a_kernel_that_ran_and_now_can_not_be_run_is_a_regression(
    outcome: Outcome, beside: tuple[TestResult, ...]
) -> None:
    now = died(outcome)
    for before in (older(*beside, samples.of_test("A")), older(KNOWN)):
        (found,) = differences(now, before)
        assert (found.effect, found.name) == (Effect.REGRESSION, "")
    assert differences(now, now) == ()


def test_a_run_that_takes_too_long_before_what_passed_is_a_regression() -> None:
    slow = samples.of_test("Known", Outcome.TIMEOUT)
    before = older(KNOWN, samples.of_test("A"))
    now = died(Outcome.TIMEOUT, slow)
    assert {(one.name, one.effect) for one in differences(now, before)} == {
        ("Known", Effect.OTHER),
        ("", Effect.REGRESSION),
    }
    # Of the test alone, as all others were run.
    now = samples.run(slow, samples.of_test("A"))
    assert [one.effect for one in differences(now, before)] == [Effect.OTHER]


@pytest.mark.parametrize("outcome", [Outcome.PANIC, Outcome.LOST])
def test_a_test_that_failed_and_now_ends_the_kernel_is_a_regression(outcome: Outcome) -> None:
    now = died(outcome, samples.of_test("Known", outcome))
    (found,) = differences(now, older(KNOWN, samples.of_test("A")))
    assert (found.name, found.effect) == ("Known", Effect.REGRESSION)
    assert found.text == f"failed before, {outcome} now: why"
    assert differences(now, now) == ()


def test_a_panic_is_told_beside_a_test_that_newly_fails() -> None:
    now = died(Outcome.PANIC, samples.of_test("A", FAILED))
    found = differences(now, older(samples.of_test("A"), samples.of_test("B")))
    assert [(one.name, one.effect) for one in found] == [
        ("A", Effect.REGRESSION),
        ("", Effect.REGRESSION),
    ]


@pytest.mark.parametrize("beside", BESIDE)
def test_a_new_warning_of_the_kernel_is_a_regression_where_warnings_fail(
    beside: tuple[TestResult, ...],
) -> None:
    tests = (*beside, samples.of_test("A"))

    def warned(version: str, *titles: str) -> KernelRun:
        return dataclasses.replace(
            samples.run(*tests, version=version),
            outcome=FAILED,
            reason="the kernel warned",
            warnings=tuple(KernelWarning(title) for title in titles),
        )

    def found(now: KernelRun, before: KernelRun, fail: bool) -> list[tuple[Effect, str]]:
        whole = compared(Part.TESTS, now, {"6.1": before}, fail)
        return [(one.effect, one.text) for one in whole.differences]

    now = warned("6.1.192", "WARNING: CPU: 1 PID: 12 at kernel/bpf/core.c:12 f+0x1a/0x20")
    text = f"1 new kernel warning, the first: {now.warnings[0].title}"
    assert found(now, older(*tests), True) == [(Effect.REGRESSION, text)]
    # By kernels.yaml, it is shown, and fails nothing.
    passed = dataclasses.replace(now, outcome=older(*tests).outcome)
    assert found(passed, older(*tests), False) == [(Effect.OTHER, text)]
    # The same, but for numbers; another; and one that is expected.
    same = warned("6.1.190", "WARNING: CPU: 0 PID: 3 at kernel/bpf/core.c:10 f+0x18/0x20")
    assert found(now, same, True) == []
    other = warned("6.1.190", "WARNING: CPU: 1 PID: 12 at kernel/bpf/arena.c:12 g+0x1a/0x20")
    assert found(now, other, True) == [(Effect.REGRESSION, text)]
    expected = KernelWarning(now.warnings[0].title, expected="known")
    assert found(dataclasses.replace(passed, warnings=(expected,)), older(*tests), True) == []


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


@pytest.mark.parametrize(
    "beside", [(), (samples.program("known", FAILED),)], ids=["all loaded", "one failed"]
)
def test_programs_that_are_not_run_as_the_kernel_died_are_a_regression(
    beside: tuple[ProgramResult, ...],
) -> None:
    before = samples.verification(*beside, samples.program("a"))
    not_run = dataclasses.replace(samples.program("a", Outcome.ERROR), code=Code.NOT_RUN)
    now = dataclasses.replace(
        samples.verification(*beside, not_run), outcome=Outcome.PANIC, reason="it panicked"
    )
    (found,) = differences(now, before)
    assert (found.effect, found.name) == (Effect.REGRESSION, "")
    assert "it panicked" in found.text
    assert differences(now, now) == ()


def test_a_program_that_did_not_load_and_now_ends_the_kernel_is_a_regression() -> None:
    before = samples.verification(samples.program("known", FAILED), samples.program("a"))
    kills = dataclasses.replace(samples.program("known", Outcome.PANIC), code=Code.KERNEL_DIED)
    now = dataclasses.replace(
        samples.verification(kills, samples.program("a")), outcome=Outcome.PANIC, reason="oh"
    )
    (found,) = differences(now, before)
    assert (found.effect, found.name) == (Effect.REGRESSION, "known")
    assert differences(now, now) == ()


def test_a_first_sweep_tells_of_a_kernel_that_does_not_boot_once() -> None:
    not_run = dataclasses.replace(samples.program("a", Outcome.ERROR), code=Code.NOT_RUN)
    now = dataclasses.replace(
        samples.verification(not_run), outcome=Outcome.PANIC, reason="it panicked"
    )
    assert [one.text for one in differences(now)] == ["panic: it panicked"]


FAILURES = st.sampled_from([FAILED, Outcome.TIMEOUT])
OUTCOMES = st.one_of(st.sampled_from([PASSED, SKIPPED]), FAILURES)
TESTS = st.dictionaries(
    st.sampled_from("ABCD"), st.tuples(OUTCOMES, st.sampled_from(["", "known"])), min_size=1
)
Tests = dict[str, tuple[Outcome, str]]
DYING = st.sampled_from([None, *"ABCD"])
"""The test in which the kernel panics; those behind it are not run."""


def ran(tests: Tests, dying: str | None, version: str) -> KernelRun:
    results = []
    for name, (outcome, expected) in sorted(tests.items()):
        if name == dying:
            results.append(samples.of_test(name, Outcome.PANIC))
            run = samples.run(*results, version=version)
            return dataclasses.replace(run, outcome=Outcome.PANIC, reason="panic")
        results.append(samples.of_test(name, outcome, expected))
    return samples.run(*results, version=version)


@given(TESTS, DYING, TESTS, DYING)
def test_a_regression_is_what_fails_and_did_not_fail_before(
    before: Tests, dying_before: str | None, after: Tests, dying: str | None
) -> None:
    now, last = ran(after, dying, "6.1.192"), ran(before, dying_before, "6.1.190")
    found = differences(now, last)
    broken = {one.name for one in found if one.effect is Effect.REGRESSION}
    failing = {one.name: one.outcome for one in now.failures}
    failed = {one.name: one.outcome for one in last.failures}
    expected = {
        name
        for name, outcome in failing.items()
        if name not in failed or (outcome is Outcome.PANIC and failed[name] is not Outcome.PANIC)
    }
    assert broken - {""} == expected
    # A whole kernel is named only if no test explains it.
    known = {one.name for one in last.tests}
    passed = known - set(failed)
    lost = now.outcome is Outcome.TIMEOUT and passed - {one.name for one in now.tests}
    panics = now.outcome is Outcome.PANIC
    assert "" not in broken or lost or panics
    if panics and last.outcome is not Outcome.PANIC:
        assert broken  # by whatever name
    assert differences(now, now) == ()

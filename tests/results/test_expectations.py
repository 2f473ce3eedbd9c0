"""What is expected to fail: for how long, for which tests, and what it does to the verdict."""

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config.models import Config, Expectation
from bpfmatrix.results import kernel_run
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome

TODAY = date(2026, 11, 23)
BAD = sorted(set(Outcome) - {Outcome.PASSED, Outcome.SKIPPED})


def expected(release: str = "6.1.192", **keys: Any) -> Expectations:
    declared = Expectation.model_validate({"reason": "known", **keys})
    return Expectations.of([declared], release, TODAY)


@pytest.mark.parametrize(
    ("until", "release", "holds"),
    [
        (None, "6.1.192", True),
        ("2026-11-23", "6.1.192", True),
        ("2026-11-22", "6.1.192", False),
        (date(2026, 11, 22), "6.1.192", False),
        ("6.1.192", "6.1.191", True),
        ("6.1.192", "6.1.192", False),
        ("6.1", "6.1.0", False),
        ("6.1", "5.19.17", True),
        ("6.10", "6.9.1", True),
        ("6.9", "6.10.1", False),
        ("6.1", "", True),
    ],
)
def test_an_expectation_holds_until_its_date_or_release(
    until: object, release: str, holds: bool
) -> None:
    found = expected(release, test="TestA", until=until).of_test("p", "TestA", Outcome.FAILED)
    assert bool(found) == holds


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("TestA", "TestA", True),
        ("TestA", "TestA/sub", True),
        ("TestA", "TestAB", False),
        ("Test*", "TestAB/sub/deeper", True),
        ("TestA/sub", "TestA/sub", True),
        ("TestA/sub", "TestA", False),
        ("TestA/*", "TestA/sub/deeper", True),
        ("testa", "TestA", False),
    ],
)
def test_a_pattern_is_for_a_test_and_its_subtests(pattern: str, name: str, matches: bool) -> None:
    assert bool(expected(test=pattern).of_test("p", name, Outcome.FAILED)) == matches
    assert not expected(program=pattern).of_test("p", name, Outcome.FAILED)


@pytest.mark.parametrize(
    ("pattern", "package", "matches"),
    [
        ("a/x:TestA", "example.org/m/a/x", True),
        ("a/x:Test*", "example.org/m/b/x", False),
        ("*/m/*:TestA", "example.org/m/b/x", True),
        ("example.org/m/a/x:TestB", "example.org/m/a/x", False),
    ],
)
def test_a_pattern_may_name_a_package(pattern: str, package: str, matches: bool) -> None:
    for name in ("TestA", "TestA/sub"):
        assert bool(expected(test=pattern).of_test(package, name, Outcome.FAILED)) == matches


def test_a_colon_of_a_subtest_names_no_package() -> None:
    one = expected(test="TestA/tcp:80")
    assert one.of_test("m", "TestA/tcp:80", Outcome.FAILED)
    assert not one.of_test("m", "80", Outcome.FAILED)


def test_an_expectation_may_be_limited_to_an_object() -> None:
    one = expected(program="on_*", object="ebpf/a.o")
    assert one.of_program("ebpf/a.o", "on_exec", Outcome.FAILED) == "known"
    assert not one.of_program("ebpf/b.o", "on_exec", Outcome.FAILED)
    assert not one.of_program("ebpf/a.o", "exec", Outcome.FAILED)
    assert not expected(test="on_*").of_program("ebpf/a.o", "on_exec", Outcome.FAILED)


def test_an_expectation_of_a_loader_is_for_no_other() -> None:
    one = expected(program="on_*", loader="aya")
    assert one.of_program("a.o", "on_exec", Outcome.FAILED, "aya") == "known"
    assert not one.of_program("a.o", "on_exec", Outcome.FAILED, "libbpf")
    any_loader = expected(program="on_*")
    assert any_loader.of_program("a.o", "on_exec", Outcome.FAILED, "libbpf") == "known"


@pytest.mark.parametrize("outcome", Outcome)
def test_only_the_expected_outcome_and_a_pass_get_the_reason(outcome: Outcome) -> None:
    failing = expected(test="TestA").of_test("p", "TestA", outcome)
    assert bool(failing) == (outcome in (Outcome.FAILED, Outcome.TIMEOUT, Outcome.PASSED))
    skipping = expected(test="TestA", outcome="skipped").of_test("p", "TestA", outcome)
    assert bool(skipping) == (outcome in (Outcome.SKIPPED, Outcome.PASSED))


def test_a_kernel_has_the_expectations_for_its_id() -> None:
    kernel = {"source": {"oci": "example/a"}}
    config = Config.model_validate(
        {
            "kernels": {"5.10": kernel, "6.1": kernel},
            "expect": [
                {"kernels": ["5.*"], "test": "TestOld", "reason": "old"},
                {"test": "TestAll", "reason": "all"},
            ],
        }
    )
    assert [one.reason for one in config.kernel("5.10").expect] == ["old", "all"]
    assert [one.reason for one in config.kernel("6.1").expect] == ["all"]


@given(
    outcomes=st.lists(st.tuples(st.sampled_from(Outcome), st.sampled_from(("", "known")))),
)
def test_a_run_passes_unless_something_failed_unexpectedly(
    outcomes: list[tuple[Outcome, str]],
) -> None:
    tests = [TestResult("b", f"T{n}", o, expected=e) for n, (o, e) in enumerate(outcomes)]
    outcome, _ = kernel_run.verdict(tests)
    run = KernelRun("6.1", outcome, tests=tuple(tests))
    unexpected = [test for test in tests if test.outcome in BAD and not test.expected]
    assert run.failures == unexpected
    if unexpected:
        assert outcome in {test.outcome for test in unexpected}
    elif not tests:
        assert outcome is Outcome.ERROR
    elif all(test.outcome is Outcome.SKIPPED and not test.expected for test in tests):
        assert outcome is Outcome.SKIPPED
    else:
        assert outcome is Outcome.PASSED

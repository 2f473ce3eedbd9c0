"""The decisions of `nox -s soak`: the plan of a seed, and what is right. Nothing runs here."""

import dataclasses
import json
import signal
from collections.abc import Iterable
from typing import Any

import pytest

from tests.soak.__main__ import arguments, plans
from tests.soak.plans import Plan, Strike, all_categories, categories, disagreements, plan_of
from tests.soak.programs import ENDINGS, KINDS, PATTERNS, Printed, Program, result

SEEDS = range(200)


def right_file(plan: Plan) -> dict[str, Any]:
    """Return a result file that agrees with a plan."""
    [outcome, *_] = sorted(plan.outcomes)
    tests = [
        {
            "binary": binary,
            "name": each.name,
            "outcome": sorted(each.outcomes)[0],
            "reason": each.reason.replace(r"\b", "") or "x",
        }
        for binary, each in plan.results
    ]
    return {"outcome": outcome, "reason": "" if outcome == "passed" else "x", "tests": tests}


def wrong(plan: Plan, found: dict[str, Any] | None) -> list[str]:
    return list(disagreements(plan, "6.1", found))


def one(programs: Iterable[Program], ending: str = "none", strike: Strike | None = None) -> Plan:
    return Plan(0, ("6.1",), "invoke", False, False, ending, tuple(programs), strike)


def test_a_seed_has_one_plan() -> None:
    assert [plan_of(seed) for seed in SEEDS] == [plan_of(seed) for seed in SEEDS]
    assert len({str(plan_of(seed)) for seed in SEEDS}) > 150


def test_every_category_occurs_soon() -> None:
    found = set().union(*(categories(plan_of(seed)) for seed in SEEDS))
    assert all_categories() <= found


def test_the_options_choose_the_plans() -> None:
    first = list(plans(arguments(["--runs", "100", "--seed", "7"])))
    assert [plan.seed for plan in first] == list(range(7_000_000, 7_000_100))
    left = list(plans(arguments(["--runs", "100", "--seed", "7", "--without", "forge"])))
    assert len(left) == 100
    assert not any("forge" in categories(plan) for plan in left)
    assert [plan for plan in first if "forge" not in categories(plan)] == [
        plan for plan in left if plan in first
    ]
    assert list(plans(arguments(["--only", "7000003"]))) == [plan_of(7_000_003)]


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_a_plan_is_consistent(first: int) -> None:
    for seed in range(first, first + 50):
        check_consistent(plan_of(seed))


def check_consistent(plan: Plan) -> None:
    names = [program.name for program in plan.programs]
    assert len(names) == len(set(names))
    assert 1 <= len(names) <= 6
    assert (plan.ending == "none") == ("ending" not in names)
    assert "never" not in {program.name for program in plan.begun}
    assert plan.strike is None or len(plan.kernels) == 1
    # No program but the ending may be slow where the limit of a test is short.
    if plan.test_limit_seconds:
        assert not {"memory", "disk", "background", "go"} & {p.kind for p in plan.programs}
    # Something must tell a run that passed from one that did not.
    for _, each in plan.results:
        assert "passed" not in each.outcomes or each.outcomes == {"passed"}
    if ENDINGS[plan.ending].outcomes:
        assert "passed" not in plan.outcomes
        assert not plan.right_status(0)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_a_file_that_agrees_is_right_and_another_one_is_wrong(first: int) -> None:
    for seed in range(first, first + 50):
        check_comparison(plan_of(seed))


def check_comparison(plan: Plan) -> None:
    found = right_file(plan)
    assert wrong(plan, found) == []
    for outcome in ("passed", "failed", "error"):
        if outcome not in plan.outcomes:
            assert wrong(plan, {**found, "outcome": outcome})
    if plan.results_decide and plan.ending != "run limit":
        for number, test in enumerate(found["tests"]):
            others = found["tests"][:number] + found["tests"][number + 1 :]
            assert wrong(plan, {**found, "tests": others})
            assert wrong(plan, {**found, "tests": [*others, {**test, "outcome": "error"}]})
            assert wrong(plan, {**found, "tests": [*found["tests"], {**test, "name": "more"}]})


def test_the_worst_test_decides_the_run() -> None:
    def outcomes(*words: str) -> frozenset[str]:
        return one(Program(f"p{n}", "go", (result("T", w),)) for n, w in enumerate(words)).outcomes

    assert outcomes("passed", "skipped") == {"passed"}
    assert outcomes("skipped", "skipped") == {"skipped"}
    assert outcomes("passed", "failed") == {"failed"}
    assert outcomes("failed", "timeout", "passed") == {"timeout"}


def test_nothing_runs_after_the_end_of_the_machine() -> None:
    programs = [
        Program(name, kind, (result(name, "lost"),))
        for name, kind in (("p0", "exit"), ("ending", "reset"), ("never", "exit"))
    ]
    assert [program.name for program in one(programs, "reset").begun] == ["p0", "ending"]


def test_a_killed_bpfmatrix_may_leave_no_result_but_never_one_that_passed() -> None:
    program = Program("ending", "tool", (result("ending", "interrupted"),))
    strike = Strike("tool", "waiting", 0.0, signal.SIGKILL, to_group=False)
    killed = one([program], "tool", strike)
    assert wrong(killed, None) == []
    assert not killed.right_status(0)
    assert wrong(killed, {"outcome": "passed", "reason": "", "tests": []})
    interrupted = dataclasses.replace(
        killed, strike=dataclasses.replace(strike, signal=signal.SIGINT)
    )
    assert wrong(interrupted, None) == ["6.1: no result file"]
    assert wrong(interrupted, right_file(interrupted)) == []


def test_a_reason_is_compared() -> None:
    plan = one([Program("p0", "exit", (result("p0", "failed", reason=r"\b3\b"),))])
    found = json.loads(json.dumps(right_file(plan)))
    found["tests"][0]["reason"] = "exit status 33"
    assert wrong(plan, found) == ["6.1: p0: p0 has the reason 'exit status 33'"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_a_program_prints_depends_on_its_seed_alone(pattern: str) -> None:
    for size in (1, 33, 5000):
        printed = Printed(pattern, size, 3)
        content = printed.content()
        assert content == printed.content()
        assert bool(content) == (pattern != "none")
        assert len(content) < 20 * size + 200


def test_all_kinds_are_named() -> None:
    assert not {"none", "exit"} & all_categories()
    assert {*KINDS} - {"exit"} <= all_categories()

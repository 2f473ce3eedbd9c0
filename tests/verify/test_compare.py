import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import (
    Code,
    ProgramResult,
    Statistics,
    Verification,
    exit_status,
    verdict,
)
from bpfmatrix.verify.compare import Change, against, costs
from tests.verify.strategies import programs, verifications


def result(
    outcome: Outcome = Outcome.PASSED,
    insns: int | None = 1000,
    expected: str = "",
    program: str = "p",
) -> ProgramResult:
    code = None if outcome is Outcome.PASSED else Code.VERIFIER_REJECTED
    statistics = Statistics(instructions_processed=insns)
    return ProgramResult(
        "a.o", program, outcome, code=code, statistics=statistics, expected=expected, reason="why"
    )


def on(kernel: str, *results: ProgramResult) -> Verification:
    return Verification(kernel, *verdict(results), programs=results)


def compared(
    before: ProgramResult | None, after: ProgramResult | None, threshold: float = 0.1
) -> list[Change]:
    base = on("6.1", *([before] if before else []), result(program="other"))
    now = on("6.1", *([after] if after else []), result(program="other"))
    return against([base], [now], threshold)


def test_what_newly_fails_is_a_regression() -> None:
    (change,) = compared(result(), result(Outcome.FAILED))
    assert change.regression
    assert change.text == "loaded, fails now: why"


def test_what_fails_as_expected_is_none() -> None:
    (change,) = compared(result(), result(Outcome.FAILED, expected="known"))
    assert not change.regression


def test_what_newly_loads_is_told() -> None:
    (change,) = compared(result(Outcome.FAILED), result())
    assert (change.text, change.regression) == ("did not load, loads now", False)


def test_what_failed_before_is_no_regression() -> None:
    assert compared(result(Outcome.FAILED), result(Outcome.FAILED)) == []


def test_what_failed_before_and_now_ends_the_kernel_is_a_regression() -> None:
    died = dataclasses.replace(result(Outcome.PANIC), code=Code.KERNEL_DIED)
    (change,) = compared(result(Outcome.FAILED), died)
    assert (change.regression, change.kind) == (True, "fails")
    assert change.text == "kernel-died now, verifier-rejected before"
    assert compared(died, died) == []


def test_what_grew_by_more_than_the_threshold_is_a_regression() -> None:
    (change,) = compared(result(insns=1000), result(insns=1101))
    assert change.regression
    assert "1,000 instructions processed before, 1,101 now (+10%)" in change.text
    assert compared(result(insns=1000), result(insns=1100)) == []
    assert compared(result(insns=1000), result(insns=1101), threshold=0.2) == []


def test_what_shrank_is_told_and_no_regression() -> None:
    (change,) = compared(result(insns=1000), result(insns=500))
    assert not change.regression


def test_a_new_program_that_does_not_load_is_a_regression() -> None:
    (change,) = compared(None, result(Outcome.FAILED))
    assert change.regression
    (change,) = compared(None, result())
    assert (change.text, change.regression) == ("new, loads", False)
    (change,) = compared(result(), None)
    assert (change.text, change.regression) == ("no longer there", False)


def test_a_kernel_that_could_not_be_tried_is_a_regression() -> None:
    (change,) = against(
        [on("6.1", result())], [Verification("6.1", Outcome.ERROR, "no network")], 0.1
    )
    assert change.regression
    assert "no network" in change.text


def test_a_kernel_that_the_base_does_not_have_is_told() -> None:
    change, _ = against([on("6.1", result())], [on("7.3", result())], 0.1)
    assert (change.kernel, change.regression) == ("7.3", False)


@given(verification=verifications, threshold=st.floats(0, 1))
def test_nothing_changed_against_itself(verification: Verification, threshold: float) -> None:
    assert against([verification], [verification], threshold) == []


@given(
    before=st.lists(programs, max_size=4),
    after=st.lists(programs, max_size=4),
    threshold=st.floats(0, 1),
)
def test_a_regression_is_of_what_does_not_load_or_grew(
    before: list[ProgramResult], after: list[ProgramResult], threshold: float
) -> None:
    for change in against([on("6.1", *before)], [on("6.1", *after)], threshold):
        if change.regression and change.program != "(kernel)":
            now = [p for p in after if (p.object, p.program) == (change.object, change.program)]
            assert now
            assert now[-1].outcome not in (Outcome.PASSED, Outcome.SKIPPED) or "%" in change.text


def test_a_program_that_costs_more_on_one_kernel_is_named() -> None:
    found = costs(
        [
            on("5.10", result(insns=3000), result(insns=90, program="small")),
            on("6.1", result(insns=1000), result(insns=10, program="small")),
            on("7.3", result(insns=1500), result(Outcome.FAILED, insns=9, program="small")),
        ]
    )
    assert [(one.program, one.dear, one.cheap, one.factor) for one in found] == [
        ("p", "5.10", "6.1", 3.0)
    ]


def test_exit_status() -> None:
    fine, bad = on("6.1", result()), on("6.1", result(Outcome.FAILED))
    skipped = on("5.10", result(Outcome.SKIPPED))
    expected = on("5.10", result(Outcome.FAILED, expected="known"))
    assert exit_status([fine]) == 0
    assert exit_status([fine, skipped]) == 0
    assert exit_status([expected]) == 0
    assert exit_status([skipped]) == 1
    assert exit_status([fine, bad]) == 1
    assert exit_status([]) == 1


def loaded(loader: str, count: int, preset: str = "") -> ProgramResult:
    statistics = Statistics(instructions_processed=count)
    return ProgramResult(
        "a.o", "p", Outcome.PASSED, loader=loader, preset=preset, statistics=statistics
    )


def test_a_program_is_compared_with_the_same_loader_and_preset() -> None:
    def run(*programs: ProgramResult) -> list[Verification]:
        return [Verification("6.1", Outcome.PASSED, programs=programs)]

    base = run(loaded("libbpf", 100), loaded("aya", 900))
    assert against(base, base, 0.1) == []
    (change,) = against(base, run(loaded("libbpf", 900), loaded("aya", 900)), 0.1)
    assert (change.program, change.regression) == ("p (libbpf)", True)
    # A base of a version without loaders.
    assert against(run(loaded("", 100)), run(loaded("libbpf", 100)), 0.1) == []
    (gone,) = against(run(loaded("", 9), loaded("", 9, "x")), run(loaded("libbpf", 9)), 0.1)
    assert (gone.program, gone.text) == ("p (x)", "no longer there")


def test_what_was_not_run_is_no_change() -> None:
    untried = ProgramResult("a.o", "p", Outcome.INTERRUPTED, code=Code.NOT_RUN, reason="not run")
    assert compared(result(), untried) == []
    assert compared(untried, untried) == []
    (change,) = compared(untried, result(Outcome.FAILED))
    assert (change.text, change.regression) == ("new, does not load: why", True)


def test_another_release_is_told_where_anything_changed() -> None:
    base = dataclasses.replace(on("6.1", result()), version="6.1.180")
    same = dataclasses.replace(on("6.1", result()), version="6.1.192")
    worse = dataclasses.replace(on("6.1", result(insns=2000)), version="6.1.192")
    assert against([base], [same], 0.1) == []
    release, cost = against([base], [worse], 0.1)
    assert (release.text, release.regression) == ("6.1.180 before, 6.1.192 now", False)
    assert cost.text.endswith("(+100%)")


def test_a_kernel_of_the_base_that_did_not_run_is_told() -> None:
    (change,) = against([on("5.10", result()), on("6.1", result())], [on("6.1", result())], 0.1)
    assert (change.kernel, change.text, change.regression) == ("5.10", "not run now", False)


def test_a_program_whose_object_moved_is_compared() -> None:
    moved = dataclasses.replace(result(insns=5000), object="bpf/a.o")
    (change,) = against([on("6.1", result())], [on("6.1", moved)], 0.1)
    assert (change.object, change.text[-7:]) == ("bpf/a.o", "(+400%)")
    # With two candidates, nobody knows which one it was.
    other = dataclasses.replace(result(), object="old/a.o")
    texts = [one.text for one in against([on("6.1", result(), other)], [on("6.1", moved)], 0.1)]
    assert sorted(texts) == ["new, loads", "no longer there", "no longer there"]

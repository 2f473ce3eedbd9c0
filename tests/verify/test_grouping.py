from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from bpfmatrix.verify.grouping import common_words, grouped

ON = Verification("6.1", Outcome.FAILED)


def failed(program: str, reason: str, code: Code = Code.VERIFIER_REJECTED) -> ProgramResult:
    return ProgramResult("build/a.o", program, Outcome.FAILED, code=code, reason=reason)


def groups(*results: ProgramResult) -> list[tuple[str, str, int]]:
    found = grouped((ON, result) for result in results)
    return [(group.code, group.reason, len(group.programs)) for group in found]


def test_rejections_that_differ_in_registers_are_one_reason() -> None:
    assert groups(
        failed("p", "R1 invalid mem access 'map_value_or_null'"),
        failed("q", "R1 invalid mem access 'scalar'"),
        failed("r", "R7 invalid mem access 'scalar'"),
    ) == [
        ("verifier-rejected", "R… invalid mem access 'scalar'", 2),
        ("verifier-rejected", "R1 invalid mem access 'map_value_or_null'", 1),
    ]


def test_reasons_that_differ_in_names_are_one() -> None:
    code = Code.ATTACH_TARGET_MISSING
    assert groups(
        failed("p", "this kernel has no function do_this, or its BTF lacks it", code),
        failed("q", "this kernel has no function do_that, or its BTF lacks it", code),
        failed("r", "this kernel has no tracepoint tcp:fine, or its BTF lacks it", code),
        failed("s", "the same words", Code.BAD_BTF),
        failed("t", "the same words", Code.LOAD_FAILED),
    ) == [
        (str(code), "this kernel has no function …, or its BTF lacks it", 2),
        (str(code), "this kernel has no tracepoint tcp:fine, or its BTF lacks it", 1),
        ("bad-btf", "the same words", 1),
        ("load-failed", "the same words", 1),
    ]


def test_a_program_that_fails_on_two_kernels_is_counted_once() -> None:
    other = Verification("6.12", Outcome.FAILED)
    result = failed("p", "p of build/a.o is wrong")
    (group,) = grouped([(ON, result), (other, result), (ON, failed("q", "q of a.o is wrong"))])
    assert group.programs == (("build/a.o", "p"), ("build/a.o", "q"))
    assert len(group.failures) == 3
    assert group.reason == "… of ….o is wrong"


def test_a_failure_without_a_code_has_its_outcome() -> None:
    assert groups(ProgramResult("a.o", "p", Outcome.LOST)) == [("lost", "", 1)]


def test_what_reasons_have_in_common() -> None:
    assert common_words(["one"]) == "one"
    assert common_words(["map a=1 small", "map b=1 small"]) == "map …=1 small"
    assert common_words(["at 12, then (x)", "at 3, then (yy)"]) == "at …, then (…)"
    assert common_words(["no a b here", "no c here"]) == "no …"

"""What the result of a kernel's run answers, and what it leaves open."""

from bpfmatrix.bisect.search import Answer
from bpfmatrix.bisect.trial import ObjectsTrial, of_run, of_verification
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramKey, ProgramResult, Verification

PASSED = ProgramResult("a.o", "one", Outcome.PASSED)
REJECTED = ProgramResult(
    "a.o", "two", Outcome.FAILED, code=Code.VERIFIER_REJECTED, reason="R0 invalid"
)
OPTIONAL = ProgramResult("a.o", "three", Outcome.SKIPPED, code=Code.OPTIONAL)
NOT_RUN = ProgramResult("a.o", "four", Outcome.ERROR, code=Code.NOT_RUN)
DIED = ProgramResult("a.o", "five", Outcome.PANIC, code=Code.KERNEL_DIED)


def tried(outcome: Outcome, *programs: ProgramResult) -> ObjectsTrial:
    return of_verification(Verification("6.1", outcome, version="6.1.9", programs=programs))


def test_each_program_has_its_own_answer() -> None:
    found = tried(Outcome.FAILED, PASSED, REJECTED, OPTIONAL)
    answers = {key.program: one.answer for key, one in found.programs.items()}
    assert answers == {"one": Answer.GOOD, "two": Answer.BAD, "three": Answer.BAD}
    assert found.programs[ProgramKey("a.o", "two")].reason == "verifier-rejected: R0 invalid"
    assert found.whole.answer is Answer.BAD
    assert found.optional == {OPTIONAL.key}
    # What may fail does not count for the whole.
    assert tried(Outcome.PASSED, PASSED, OPTIONAL).whole.answer is Answer.GOOD


def test_a_kernel_that_does_not_boot_says_nothing_of_a_program() -> None:
    found = tried(Outcome.PANIC, NOT_RUN)
    assert found.programs[NOT_RUN.key].answer is Answer.UNKNOWN
    assert found.whole.answer is Answer.UNKNOWN


def test_a_kernel_that_dies_of_a_program_is_bad_for_this_one_only() -> None:
    found = tried(Outcome.PANIC, PASSED, DIED, NOT_RUN)
    answers = {key.program: one.answer for key, one in found.programs.items()}
    assert answers == {"one": Answer.GOOD, "five": Answer.BAD, "four": Answer.UNKNOWN}


def test_a_kernel_that_could_not_be_prepared_says_nothing() -> None:
    found = tried(Outcome.ERROR, PASSED)
    assert (found.whole.answer, found.programs) == (Answer.UNKNOWN, {})


def test_a_panic_counts_once_a_test_has_begun() -> None:
    def answer(outcome: Outcome, *tests: TestResult) -> Answer:
        return of_run(KernelRun("6.1", outcome, tests=tests), Answer.UNKNOWN).answer

    test = TestResult("a.test", "TestA", Outcome.PANIC)
    for outcome in (Outcome.PANIC, Outcome.TIMEOUT):
        assert answer(outcome) is Answer.UNKNOWN
        assert answer(outcome, test) is Answer.BAD
    assert answer(Outcome.PASSED, test) is Answer.GOOD
    assert answer(Outcome.LOST, test) is Answer.UNKNOWN
    assert of_run(KernelRun("6.1", Outcome.ERROR), Answer.UNKNOWN).is_fault
    assert not of_run(KernelRun("6.1", Outcome.PANIC), Answer.UNKNOWN).is_fault
    assert of_run(KernelRun("6.1", Outcome.SKIPPED), Answer.BAD).answer is Answer.BAD

"""A trial of a bisection: whether programs load, or whether tests pass, on one kernel."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bpfmatrix.bisect.search import Answer
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import (
    Code,
    ProgramKey,
    ProgramResult,
    RefusedObject,
    Verification,
)
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import run_one, run_side_by_side
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWorkload
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.plan import IGNORE_REQUIREMENTS
from bpfmatrix.verify.workload import VerifyWorkload

__all__ = [
    "ObjectsTrial",
    "Trial",
    "of_objects",
    "of_program",
    "of_run",
    "of_tests",
    "of_verification",
]


@dataclass(frozen=True)
class Trial:
    """The result of one kernel's trial."""

    answer: Answer
    reason: str = ""
    """Why the answer is not good; empty if it is."""
    version: str = ""
    """The upstream release that ran, such as `6.1.192`; empty if none ran."""
    seconds: float = 0.0
    """How long the kernel's run took."""
    is_fault: bool = False
    """Whether there is no answer because of something other than the kernel: the host or the
    payload, such as a full disk, or tests that do not compile."""


@dataclass(frozen=True)
class ObjectsTrial:
    """The result of one kernel's trial of all programs of some objects."""

    whole: Trial
    """Whether each program loads that has to."""
    programs: dict[ProgramKey, Trial]
    """The trial of each program."""
    optional: frozenset[ProgramKey] = frozenset()
    """The programs that did not load, and need not."""
    results: tuple[ProgramResult, ...] = ()
    refused: tuple[RefusedObject, ...] = ()
    """The files that are no objects with programs."""


def _for_trials(project: Project) -> Project:
    """Return the project without anything that decides a trial before the kernel does.

    Left out are the needs that objects declare, the failures that kernels.yaml expects, and that
    programs may fail.
    """
    payload = project.config.payload
    payload = payload.model_copy(update={"env": {**payload.env, IGNORE_REQUIREMENTS: "1"}})
    objects = [
        each.model_copy(update={"optional": [], "variants": []})
        for each in project.config.verify.objects
    ]
    verify = project.config.verify.model_copy(update={"objects": objects})
    changes = {"payload": payload, "expect": [], "verify": verify}
    config = project.config.model_copy(update=changes)
    return dataclasses.replace(project, config=config)


def of_program(
    project: Project, options: VerifyOptions, program: str, observer: Observer
) -> Callable[[str], Trial]:
    """Return the function that tries to load one program on a kernel, given its id.

    UsageError, before any trial, if no object has the program.
    """
    project = _for_trials(project)
    options = dataclasses.replace(options, only=(program,), first_loader_only=True)
    workload = VerifyWorkload.make(project, options, observer, project.state / "bisect")

    def ask(id: str) -> Trial:
        (verification,) = run_side_by_side(project, [id], workload, observer)
        return _of_program(verification, program)

    return ask


def _of_program(verification: Verification, program: str) -> Trial:
    """Return the trial of one program, which several objects may have: it must load in each."""
    results = [result for result in verification.programs if result.program == program]
    is_fault = verification.outcome is Outcome.ERROR
    if is_fault or not results:
        seconds = verification.seconds
        return Trial(Answer.UNKNOWN, verification.reason, seconds=seconds, is_fault=is_fault)
    return _of_results(verification, results)


def _of_results(verification: Verification, results: Sequence[ProgramResult]) -> Trial:
    bad = [result for result in results if result.outcome is not Outcome.PASSED]
    answer, reason = Answer.GOOD, ""
    if bad:
        code = f"{bad[0].code}: " if bad[0].code else ""
        answer, reason = Answer.BAD, f"{code}{bad[0].reason}"
    died = any(result.code is Code.KERNEL_DIED for result in bad)
    if any(_tells_nothing(result, died) for result in bad):
        answer = Answer.UNKNOWN
    return Trial(answer, reason, verification.version, verification.seconds)


def of_objects(
    project: Project, options: VerifyOptions, observer: Observer
) -> Callable[[str], ObjectsTrial]:
    """Return the function that tries to load all programs on a kernel, given its id."""
    # What may fail by kernels.yaml need not load here either.
    verify = project.config.verify
    project = _for_trials(project)
    config = project.config.model_copy(update={"verify": verify})
    project = dataclasses.replace(project, config=config)
    options = dataclasses.replace(options, first_loader_only=True)
    workload = VerifyWorkload.make(project, options, observer, project.state / "bisect")

    def ask(id: str) -> ObjectsTrial:
        (verification,) = run_side_by_side(project, [id], workload, observer)
        return of_verification(verification)

    return ask


def of_verification(verification: Verification) -> ObjectsTrial:
    """Return the trial of all programs of a verification."""
    programs = {
        result.key: _of_results(verification, [result])
        for result in verification.programs
        if verification.outcome is not Outcome.ERROR
    }
    optional = frozenset(one.key for one in verification.programs if one.code is Code.OPTIONAL)
    answers = {trial.answer for key, trial in programs.items() if key not in optional}
    answer = next((each for each in (Answer.BAD, Answer.UNKNOWN) if each in answers), Answer.GOOD)
    whole = Trial(
        answer if programs else Answer.UNKNOWN,
        verification.reason,
        verification.version,
        verification.seconds,
    )
    results = tuple(verification.programs)
    return ObjectsTrial(whole, programs, optional, results, verification.refused)


def _tells_nothing(result: ProgramResult, died: bool) -> bool:
    """Whether a program that did not load may be good all the same.

    `died` is whether the kernel died of it in one object, so that others were not tried.
    """
    if result.code is Code.OPTIONAL:  # by its section; it was tried, and failed
        return False
    if result.code is Code.NOT_RUN:
        return not died
    return result.outcome in (Outcome.SKIPPED, Outcome.LOST)


def of_tests(
    project: Project, options: RunOptions, skipped: Answer, observer: Observer
) -> Callable[[str], Trial]:
    """Return the function that runs the tests on a kernel, given its id.

    `skipped` is the answer of a kernel on which all tests are skipped.
    """
    project = _for_trials(project)
    workload = SuiteWorkload(project, options)

    def ask(id: str) -> Trial:
        try:
            run = run_one(project, id, workload, observer)
        except UsageError:
            raise
        except BpfmatrixError as error:
            return Trial(Answer.UNKNOWN, error.what, is_fault=True)
        return of_run(run, skipped)

    return ask


def of_run(run: KernelRun, skipped: Answer) -> Trial:
    """Return the trial of a run of the tests; `skipped` is the answer if all were skipped."""
    is_fault = run.outcome in (Outcome.ERROR, Outcome.INTERRUPTED)
    return Trial(_answer(run, skipped), run.reason, run.version, run.seconds, is_fault)


def _answer(run: KernelRun, skipped: Answer) -> Answer:
    match run.outcome:
        case Outcome.PASSED:
            return Answer.GOOD
        case Outcome.SKIPPED:
            return skipped
        case Outcome.ERROR | Outcome.LOST | Outcome.INTERRUPTED:
            return Answer.UNKNOWN
        case Outcome.TIMEOUT | Outcome.PANIC if not run.tests:  # it did not boot
            return Answer.UNKNOWN
    return Answer.BAD

"""What one kernel is asked: whether a program loads there, or whether tests pass there."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from bpfmatrix.bisect.search import Answer
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import run_one, run_side_by_side
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWorkload
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.workload import VerifyWorkload

__all__ = ["Trial", "of_program", "of_tests"]

# What objects declare that they need would answer in the kernel's place.
_IGNORE = "BPFMATRIX_IGNORE_REQUIREMENTS"


@dataclass(frozen=True)
class Trial:
    """What one kernel said."""

    answer: Answer
    reason: str = ""
    """Why it is not good."""
    version: str = ""
    """The upstream release that ran; empty where none did."""
    seconds: float = 0.0


def _for_trials(project: Project) -> Project:
    """Return the project with nothing in it that answers in a kernel's place."""
    payload = project.config.payload
    payload = payload.model_copy(update={"env": {**payload.env, _IGNORE: "1"}})
    # What is expected to fail somewhere is what is looked for here.
    config = project.config.model_copy(update={"payload": payload, "expect": []})
    return dataclasses.replace(project, config=config)


def of_program(
    project: Project, options: VerifyOptions, program: str, observer: Observer
) -> Callable[[str], Trial]:
    """Return what loads one program on a kernel. UsageError, at once, where no object has it."""
    project = _for_trials(project)
    options = dataclasses.replace(options, only=(program,))
    workload = VerifyWorkload.make(project, options, observer, project.state / "bisect")

    def ask(id: str) -> Trial:
        (one,) = run_side_by_side(project, [id], workload, observer)
        results = [result for result in one.programs if result.program == program]
        if one.outcome is Outcome.ERROR or not results:
            return Trial(Answer.UNKNOWN, one.reason, seconds=one.seconds)
        bad = [result for result in results if result.outcome is not Outcome.PASSED]
        answer, reason = Answer.GOOD, ""
        if bad:
            code = f"{bad[0].code}: " if bad[0].code else ""
            answer, reason = Answer.BAD, f"{code}{bad[0].reason}"
        if any(result.outcome in (Outcome.SKIPPED, Outcome.LOST) for result in bad):
            answer = Answer.UNKNOWN
        return Trial(answer, reason, one.version, one.seconds)

    return ask


def of_tests(
    project: Project, options: RunOptions, skipped: Answer, observer: Observer
) -> Callable[[str], Trial]:
    """Return what runs tests on a kernel; `skipped` is the answer of one that skips all of them."""
    project = _for_trials(project)
    workload = SuiteWorkload(project, options)

    def ask(id: str) -> Trial:
        try:
            run = run_one(project, id, workload, observer)
        except UsageError:
            raise
        except BpfmatrixError as error:
            return Trial(Answer.UNKNOWN, error.what)
        return Trial(_answer(run, skipped), run.reason, run.version, run.seconds)

    return ask


def _answer(run: KernelRun, skipped: Answer) -> Answer:
    match run.outcome:
        case Outcome.PASSED:
            return Answer.GOOD
        case Outcome.SKIPPED:
            return skipped
        case Outcome.ERROR | Outcome.LOST | Outcome.INTERRUPTED:
            return Answer.UNKNOWN
        case Outcome.TIMEOUT if not run.tests:  # of the boot
            return Answer.UNKNOWN
    return Answer.BAD

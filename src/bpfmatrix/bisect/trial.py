"""What one kernel is asked: whether a program loads there, or whether tests pass there."""

import asyncio
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from bpfmatrix.bisect.search import Answer
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.payload.model import Payload
from bpfmatrix.results.model import KernelRun, Outcome
from bpfmatrix.results.verification import ProgramResult, Verification
from bpfmatrix.session.observer import Silent
from bpfmatrix.session.options import Options
from bpfmatrix.session.preparation import prepare
from bpfmatrix.suite import matrix
from bpfmatrix.suite.run import execute
from bpfmatrix.verify import matrix as verify_matrix
from bpfmatrix.verify.plan import Request

__all__ = ["Listener", "Trial", "of_program", "of_tests"]

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


class Listener(Silent):
    """Passes on what goes on, such as a kernel that is fetched."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See listener.Listener."""
        percent = "" if fraction is None else f" {fraction:.0%}"
        self._say(f"{name} {text}{percent}")

    def program(self, kernel: str, result: ProgramResult) -> None:
        """See verify.run.VerifyListener."""

    def verified(self, verification: Verification) -> None:
        """See verify.run.VerifyListener."""


def _for_trials(project: Project) -> Project:
    """Return the project with nothing in it that answers in a kernel's place."""
    payload = project.config.payload
    payload = payload.model_copy(update={"env": {**payload.env, _IGNORE: "1"}})
    # What is expected to fail somewhere is what is looked for here.
    config = project.config.model_copy(update={"payload": payload, "expect": []})
    return dataclasses.replace(project, config=config)


def of_program(
    project: Project, request: Request, program: str, listener: Listener
) -> Callable[[str], Trial]:
    """Return what loads one program on a kernel. UsageError, at once, where no object has it."""
    project = _for_trials(project)
    request = dataclasses.replace(request, only=(program,))

    def ask(id: str) -> Trial:
        folder = project.state / "bisect"
        (finished,) = verify_matrix.run(project, [id], request, listener, folder=folder)
        one = finished.verification
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
    project: Project, options: Options, skipped: Answer, listener: Listener
) -> Callable[[str], Trial]:
    """Return what runs tests on a kernel; `skipped` is the answer of one that skips all of them."""
    project = _for_trials(project)
    payloads: dict[str, Payload] = {}

    def ask(id: str) -> Trial:
        kernel = project.config.kernel(id)
        if kernel.arch not in payloads:
            payloads[kernel.arch] = matrix.built(project, kernel.arch, options, listener)
        try:
            prepared = prepare(project, kernel, payloads[kernel.arch], options, listener)
            run = asyncio.run(execute(project, prepared, options, listener))
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

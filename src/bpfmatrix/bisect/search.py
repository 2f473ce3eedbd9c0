"""The search of a bisection: between which two kernels the answer changes, in few trials."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Answer", "EndError", "SearchResult", "search"]


class Answer(enum.StrEnum):
    """The answer of one kernel's trial."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    """The kernel could not be tried, or its trial decides nothing."""

    @property
    def opposite(self) -> "Answer":
        """Bad for good, and good for bad."""
        return {Answer.GOOD: Answer.BAD, Answer.BAD: Answer.GOOD}.get(self, self)


class EndError(Exception):
    """The answer of an end is not what the user said.

    `args` are the kernel, the answer that the user named, and the answer of its trial.
    """


@dataclass(frozen=True)
class SearchResult:
    """The answer changes between `before` and `after`, both of which were tried."""

    before: str
    after: str
    unknown: tuple[str, ...] = ()
    """The kernels between the two, whose answers are unknown."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """The answers of all kernels that were tried, in the order of the trials."""


def search(kernels: Sequence[str], first: Answer, ask: Callable[[str], Answer]) -> SearchResult:
    """Find where in `kernels`, which are in order, the answer changes from `first` to its opposite.

    Each kernel is tried at most once. The two ends are tried last, and only if the change is next
    to them. If the answer changes several times, one of the changes is found. In place of a kernel
    whose answer is unknown, the one nearest to the middle is tried. EndError if the answer of an
    end is not what the user said, or unknown.
    """
    answers: dict[str, Answer] = {}
    low, high = 0, len(kernels) - 1

    def asked(index: int) -> Answer:
        kernel = kernels[index]
        if kernel not in answers:
            answers[kernel] = ask(kernel)
        return answers[kernel]

    while between := [i for i in range(low + 1, high) if kernels[i] not in answers]:
        middle = (low + high) / 2
        index = min(between, key=lambda i: abs(i - middle))
        answer = asked(index)
        if answer is first:
            low = index
        elif answer is first.opposite:
            high = index
    for index, said in ((low, first), (high, first.opposite)):
        if (answer := asked(index)) is not said:
            raise EndError(kernels[index], said, answer)
    return SearchResult(kernels[low], kernels[high], tuple(kernels[low + 1 : high]), answers)

"""The search itself: where between two ends an answer changes, with as few questions as may be."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Answer", "EndError", "Found", "search"]


class Answer(enum.StrEnum):
    """What one kernel says."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"
    """It can't be tried, or does not tell."""

    @property
    def opposite(self) -> "Answer":
        """The other one of good and bad."""
        return {Answer.GOOD: Answer.BAD, Answer.BAD: Answer.GOOD}.get(self, self)


class EndError(Exception):
    """An end is not what it was said to be. `args` are the kernel, what was said, what it is."""


@dataclass(frozen=True)
class Found:
    """Where the answer changes: between `before` and `after`, both of which were tried."""

    before: str
    after: str
    unknown: tuple[str, ...] = ()
    """Kernels between the two, of which nothing is known."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """All that were tried, in that order."""


def search(kernels: Sequence[str], first: Answer, ask: Callable[[str], Answer]) -> Found:
    """Find where along `kernels`, in order, the answer changes from `first` to its opposite.

    The first and the last kernel are believed to be what they were said to be, until the change
    was found next to one of them; then it is asked too. Each kernel is asked once at most. If the
    answer changes several times, one of the changes is found. A kernel that does not tell is passed
    over for the nearest to it. EndError where an end is not what was said, or does not tell.
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
    return Found(kernels[low], kernels[high], tuple(kernels[low + 1 : high]), answers)

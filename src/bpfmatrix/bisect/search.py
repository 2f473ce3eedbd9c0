"""The searches of a bisection: where the answer changes, in few trials.

The kernels are in order. Some are tried sooner than the others between the same two, such as one of
each series: `sooner` has these groups, the first one first.
"""

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

__all__ = [
    "Answer",
    "EndError",
    "Ends",
    "SearchResult",
    "find_ends",
    "search",
    "search_oldest",
]

Program = TypeVar("Program")


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
class Ends:
    """The oldest and the newest kernel that gave an answer, or were named."""

    first: int
    last: int
    """Positions among the kernels; the same one if only one kernel gives an answer."""
    answers: tuple[Answer, Answer]
    """The answers of both."""
    unknown: tuple[str, ...]
    """The kernels outside of them that gave no answer."""

    @property
    def differ(self) -> bool:
        """Whether the answer changes between them."""
        return self.answers[0] is not self.answers[1]


@dataclass(frozen=True)
class SearchResult:
    """The answer changes between `before` and `after`, both of which were tried."""

    before: str
    after: str
    unknown: tuple[str, ...] = ()
    """The kernels between the two, whose answers are unknown."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """The answers of all kernels that were tried, in the order of the trials."""


def find_ends(
    kernels: Sequence[str],
    ask: Callable[[str], Answer],
    named: Mapping[str, Answer] | None = None,
) -> Ends | None:
    """Find two kernels between which the answer may change: both ends, as far as they can be tried.

    In place of a kernel that gives no answer, the next one is tried. With one kernel and its answer
    in `named`, the other end is the newest kernel, or the oldest one if the newest has the same
    answer. None if no kernel gives an answer.
    """
    unknown: list[str] = []

    def first_known(positions: Iterable[int]) -> tuple[int, Answer] | None:
        for position in positions:
            if (answer := ask(kernels[position])) is not Answer.UNKNOWN:
                return position, answer
            unknown.append(kernels[position])
        return None

    for id, said in (named or {}).items():
        given = (kernels.index(id), said)
        newest = first_known(range(len(kernels) - 1, given[0], -1)) or given
        if newest[1] is not said:
            return Ends(given[0], newest[0], (said, newest[1]), tuple(unknown))
        oldest = first_known(range(given[0])) or given
        last = newest if oldest[1] is said else given
        return Ends(oldest[0], last[0], (oldest[1], last[1]), tuple(unknown))
    if not (tried := first_known(range(len(kernels) - 1, -1, -1))):
        return None
    newest = tried
    oldest = first_known(range(newest[0])) or newest
    return Ends(oldest[0], newest[0], (oldest[1], newest[1]), tuple(unknown))


def search(
    kernels: Sequence[str],
    first: Answer,
    ask: Callable[[str], Answer],
    sooner: Sequence[Collection[str]] = (),
) -> SearchResult:
    """Find where in `kernels`, which are in order, the answer changes from `first` to its opposite.

    Each kernel is tried at most once. The two ends are tried only if the change is next to them,
    after the first group of `sooner`. If the answer changes several times, one of the changes is
    found. In place of a kernel whose answer is unknown, the one in the middle of the others is
    tried. EndError if the answer of an end is not what the user said, or unknown.
    """
    answers: dict[str, Answer] = {}
    low, high = 0, len(kernels) - 1

    def asked(index: int) -> Answer:
        kernel = kernels[index]
        if kernel not in answers:
            answers[kernel] = ask(kernel)
        return answers[kernel]

    def check_ends() -> None:
        for index, said in ((low, first), (high, first.opposite)):
            if (answer := asked(index)) is not said:
                raise EndError(kernels[index], said, answer)

    while between := [i for i in range(low + 1, high) if kernels[i] not in answers]:
        group = _soonest(kernels, between, sooner)
        if sooner and kernels[group[0]] not in sooner[0]:
            check_ends()  # before the many kernels of one group are tried for nothing
        index = _middle(group)
        answer = asked(index)
        if answer is first:
            low = index
        elif answer is first.opposite:
            high = index
    check_ends()
    return SearchResult(kernels[low], kernels[high], tuple(kernels[low + 1 : high]), answers)


def search_oldest(
    kernels: Sequence[str],
    ask: Callable[[str], Mapping[Program, Answer]],
    sooner: Sequence[Collection[str]] = (),
) -> dict[Program, tuple[str | None, str | None]]:
    """Find for each program the oldest of `kernels` that it loads on; one trial is for all of them.

    `ask` gives the answer of each program on a kernel; one that it leaves out is unknown. Returned
    are for each program the newest kernel on which it does not load, and the oldest one on which it
    does, between which every kernel is unknown. The first is None if it loads on all, and the
    second if it does not load on the newest kernel that says anything about it. Like `search`, this
    takes it that the answer changes once.
    """
    asked: set[str] = set()
    # Positions: all programs begin with no kernel on which they fail, and none on which they load.
    bounds: dict[Program, tuple[int, int]] = {}
    last = len(kernels)

    def ask_once(position: int) -> None:
        asked.add(kernels[position])
        for program, answer in ask(kernels[position]).items():
            low, high = bounds.setdefault(program, (-1, last))
            if low < position < high:
                if answer is Answer.BAD:
                    bounds[program] = (position, high)
                elif answer is Answer.GOOD:
                    bounds[program] = (low, position)

    for position in range(last - 1, -1, -1):  # what fails on the newest is searched for no further
        ask_once(position)
        if bounds and (-1, last) not in bounds.values():
            break
    for position in range(last):
        # It may go on to the first kernel that gives an answer for each program.
        if not any(low < 0 and position < high < last for low, high in bounds.values()):
            break
        if kernels[position] not in asked:
            ask_once(position)
    while open_parts := _open_parts(kernels, bounds, asked, sooner):
        # The part that concerns the most programs.
        between = max(open_parts, key=lambda part: open_parts[part])
        ask_once(_middle(between))
    return {
        program: (
            kernels[low] if low >= 0 else None,
            kernels[high] if high < last else None,
        )
        for program, (low, high) in bounds.items()
    }


def _open_parts(
    kernels: Sequence[str],
    bounds: Mapping[Program, tuple[int, int]],
    asked: Collection[str],
    sooner: Sequence[Collection[str]],
) -> dict[tuple[int, ...], int]:
    """Return the positions that are still to be tried for some programs, and for how many."""
    parts: dict[tuple[int, ...], int] = {}
    for low, high in bounds.values():
        if low < 0 or high == len(kernels):  # it loads on all, or on none
            continue
        between = [i for i in range(low + 1, high) if kernels[i] not in asked]
        if between:
            chosen = tuple(_soonest(kernels, between, sooner))
            parts[chosen] = parts.get(chosen, 0) + 1
    return parts


def _soonest(
    kernels: Sequence[str], positions: Sequence[int], sooner: Sequence[Collection[str]]
) -> Sequence[int]:
    """Return those of the positions that are to be tried before the others."""
    chosen = ([i for i in positions if kernels[i] in group] for group in sooner)
    return next(filter(None, chosen), positions)


def _middle(positions: Sequence[int]) -> int:
    return positions[(len(positions) - 1) // 2]

"""Samples that were lost, and which places in the ranking of lines they could have changed.

The ranking is by the samples in which a line is the innermost (`HotLine.own`). A lost sample could
be of any line, or of any line of one function if the tracer knows that much of it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bpfmatrix.profile.stacks import HotLine, SourceLine, Stack

__all__ = ["Loss", "losses_of", "uncertain"]


@dataclass(frozen=True)
class Loss:
    """Samples that were taken, and whose stacks are not known."""

    count: int
    function: tuple[str, str] | None = None
    """The file and the name of the innermost function; None if it is not known."""


def uncertain(ranking: Sequence[HotLine], losses: Iterable[Loss]) -> frozenset[SourceLine]:
    """Return the lines that could have another line above or below them, if nothing had been lost.

    `ranking` has every line, in the order of `stacks.hottest`. Losses may also be of lines that are
    in no sample: any function can have such a line. Two lines with equally many samples are in no
    order, so only a loss makes their places uncertain.
    """
    by_function: Counter[tuple[str, str] | None] = Counter()
    for loss in losses:
        by_function[loss.function] += loss.count
    anywhere = by_function.pop(None, 0)
    # The samples of each line if it had all losses that it could have.
    most = [hot.own + anywhere + by_function[hot.line.file, hot.line.function] for hot in ranking]
    most_below = anywhere + max(by_function.values(), default=0)  # of a line that is in no sample
    found = set()
    for place in reversed(range(len(ranking))):
        hot = ranking[place]
        could_rise = place > 0 and most[place] > ranking[place - 1].own
        if could_rise or most_below > hot.own:
            found.add(hot.line)
        most_below = max(most_below, most[place])
    return frozenset(found)


def losses_of(
    counters: Mapping[str, int], stacks: Iterable[Stack], known: Sequence[Loss] = ()
) -> list[Loss]:
    """Return what was lost, by the tracer's counters and the stacks that arrived.

    `known` are the lost samples whose innermost functions are known. Samples of which no frame
    could be read have no stack either, and count as lost.
    """
    arrived = sum(stack.count for stack in stacks if stack.truncated == "unreadable")
    unknown = max(0, counters.get("lost", 0) - sum(loss.count for loss in known)) + max(
        0, counters.get("unreadable", 0) - arrived
    )
    return [*known, *[Loss(unknown)] * bool(unknown)]

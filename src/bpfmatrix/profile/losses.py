"""Samples of unknown code, and which places in the ranking of lines they could have changed.

The ranking is by the samples in which a line is the innermost (`HotLine.own`). A sample whose stack
was lost counts there like any other, if the tracer knows its innermost line. If it does not, the
sample could be of any line.
"""

from collections.abc import Iterable, Mapping, Sequence

from bpfmatrix.profile.stacks import HotLine, SourceLine, Stack

__all__ = ["uncertain", "unknown_samples"]


def uncertain(ranking: Sequence[HotLine], unknown: int) -> frozenset[SourceLine]:
    """Return the lines that could have another line above or below them.

    `ranking` has every line, in the order of `stacks.hottest`, and `unknown` is the number of
    samples that could be of any of these lines, or of a line that is in no sample. Two lines with
    equally many samples are in no order, so only unknown samples make their places uncertain.
    """
    found = set()
    most_below = unknown  # samples of the line below, if all unknown samples were of this one
    for place in reversed(range(len(ranking))):
        hot = ranking[place]
        most = hot.own + unknown
        could_rise = place > 0 and most > ranking[place - 1].own
        if could_rise or most_below > hot.own:
            found.add(hot.line)
        most_below = most
    return frozenset(found)


def unknown_samples(
    counters: Mapping[str, int], stacks: Iterable[Stack], lost: Iterable[Stack]
) -> int:
    """Return how many samples are of unknown code, by the tracer's counters.

    `stacks` are those that arrived, and `lost` are the samples of which only the innermost line is
    known. The others that were lost are of unknown code, and so are those of which no frame could
    be read, and those of threads whose state in the interpreter was not found in time.
    """
    arrived = sum(stack.count for stack in stacks if stack.truncated == "unreadable")
    of_lost = counters.get("lost", 0) - sum(stack.count for stack in lost)
    of_unreadable = counters.get("unreadable", 0) - arrived
    return max(0, of_lost) + max(0, of_unreadable) + counters.get("not_found", 0)

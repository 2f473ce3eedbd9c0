"""Folded stacks: a text with one line for each distinct stack, and its number of samples.

The format is that of stackcollapse.pl of https://github.com/brendangregg/FlameGraph: the frames,
the outermost first, separated by semicolons; a space; the number.
"""

import functools
from collections import Counter
from collections.abc import Sequence

from bpfmatrix.host.text import printable
from bpfmatrix.profile.stacks import Stack, frame_name, short_names

__all__ = ["render"]


def render(stacks: Sequence[Stack]) -> str:
    """Return the text. Stacks with the same lines are one, of whatever thread they are."""
    counts: Counter[str] = Counter()
    files = short_names(line.file for stack in stacks for line in stack.lines)
    frame = functools.cache(lambda line: _frame(frame_name(line, files)))
    for stack in stacks:
        process = [_frame(stack.process)] if stack.process else []
        counts[";".join([*process, *map(frame, stack.from_outermost())])] += stack.count
    return "".join(f"{frames} {count}\n" for frames, count in counts.items())


def _frame(name: str) -> str:
    """Return the name without what would end the frame or its line."""
    return printable(name).replace(";", ":").replace("\n", " ").replace("\r", " ")

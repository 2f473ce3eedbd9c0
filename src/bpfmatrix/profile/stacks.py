"""Stacks of a profiled script, and the hottest lines in them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "MISSING_LINES",
    "UNKNOWN_THREAD",
    "HotLine",
    "SourceLine",
    "Stack",
    "frame_name",
    "hottest",
    "short_names",
]


@dataclass(frozen=True, order=True)
class SourceLine:
    """A line of source code, and the function that it belongs to."""

    file: str
    """The path of the source file; empty if no index has the code."""
    number: int
    """The number of the line, from 1; 0 if the instruction belongs to no line."""
    function: str

    def __str__(self) -> str:
        """Return `file:line function`."""
        return self.shown(self.file)

    def shown(self, file: str) -> str:
        """Return `file:line function` with another name for the file."""
        if not self.file:
            # For example, code that Python runs before it can read files.
            return self.function or "(code of no file)"
        return f"{file}:{self.number or '?'} {self.function}"


UNKNOWN_THREAD = 0
MISSING_LINES = SourceLine("", 0, "(outer lines are missing)")
"""What profiles have in place of the outermost lines of a truncated stack."""


def frame_name(line: SourceLine, files: Mapping[str, str] | None = None) -> str:
    """Return `function (file:line)`, as profilers name frames.

    The file is shown as `files` says, by default without its folder.
    """
    if not line.file:
        return str(line)
    file = (files or {}).get(line.file) or Path(line.file).name
    return f"{line.function} ({file}:{line.number or '?'})"


def short_names(files: Iterable[str]) -> dict[str, str]:
    """Return of each path the shortest end, of whole components, that tells it from the others.

    That of `/x/a/__init__.py` is `a/__init__.py` if there is a `/x/b/__init__.py`, too.
    """
    distinct = set(files)
    ends = Counter(end for file in distinct for end in _ends(file))
    return {file: next((end for end in _ends(file) if ends[end] == 1), file) for file in distinct}


def _ends(file: str) -> Iterator[str]:
    parts = [part for part in file.split("/") if part]
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[-count:])


@dataclass(frozen=True)
class Stack:
    """A stack of one thread, and how many samples have it."""

    lines: tuple[SourceLine, ...]
    """The innermost line first."""
    count: int
    thread: int
    """The thread's id (TID) in the guest, or `UNKNOWN_THREAD`."""
    process: str = ""
    """The process that the thread is of; empty if only one process was sampled."""
    truncated: str = ""
    """Why outer lines are missing: as the tracer says it, or "lost"; empty if none are missing."""
    thread_name: str = ""
    """The name that the thread has been given; empty if it has that of its process."""

    def from_outermost(self) -> list[SourceLine]:
        """Return the lines, the outermost first, and before them `MISSING_LINES` if truncated."""
        return [MISSING_LINES] * bool(self.truncated) + list(reversed(self.lines))


@dataclass(frozen=True)
class HotLine:
    """A line, and the number of samples in which it was running."""

    line: SourceLine
    own: int
    """Samples in which this line is the innermost."""
    total: int
    """Samples in which this line is anywhere in the stack."""
    cut: int = 0
    """Samples with a truncated stack that lacks this line: it may be among the missing lines."""


def hottest(stacks: Iterable[Stack]) -> list[HotLine]:
    """Return every line, the one with the most own samples first."""
    own: Counter[SourceLine] = Counter()
    total: Counter[SourceLine] = Counter()
    truncated: Counter[SourceLine] = Counter()
    all_truncated = 0
    for stack in stacks:
        own[stack.lines[0]] += stack.count
        # In a recursion, one sample has the same line several times.
        lines = set(stack.lines)
        for line in lines:
            total[line] += stack.count
        if stack.truncated:
            all_truncated += stack.count
            for line in lines:
                truncated[line] += stack.count
    hot_lines = [
        HotLine(line, own[line], count, all_truncated - truncated[line])
        for line, count in total.items()
    ]
    return sorted(hot_lines, key=lambda hot: (-hot.own, -hot.total, hot.line))

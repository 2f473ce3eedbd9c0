"""What `profile-python` prints of a profile: its processes, its hottest lines, and what is missing.

A line of the ranking is marked if lost samples could have changed its place.
"""

import linecache
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from bpfmatrix.cli.console import make_console, say
from bpfmatrix.config.project import Project
from bpfmatrix.host.text import counted, inert
from bpfmatrix.profile import processes as processes_of
from bpfmatrix.profile.losses import uncertain, unknown_samples
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.stacks import HotLine, SourceLine, Stack, hottest
from bpfmatrix.profile.symbolization import Symbolized

__all__ = ["print_profile"]

_SHOWN_LINES = 15
_SHOWN_PROCESSES = 20
_SHOWN_SOURCE = 60
_SHOWN_LOSSES = 3
_UNCERTAIN, _AT_LEAST = "?", "≥"


def print_profile(project: Project, recording: Recording, symbolized: Symbolized) -> None:
    """Print the hottest lines of a recording."""
    console = make_console()
    stacks = [*symbolized.stacks, *symbolized.lost]
    samples = sum(stack.count for stack in stacks)
    threads = len({(stack.process, stack.thread) for stack in symbolized.stacks})
    processes = {stack.process for stack in stacks}
    in_processes = f" in {len(processes)} processes" if len(processes) > 1 else ""
    counters = recording.summary.get("counters", {})
    unknown = unknown_samples(counters, symbolized.stacks, symbolized.lost)
    without = f", without {unknown} of unknown code" if unknown else ""
    console.print(
        f"\n{counted(samples, 'sample')} of {counted(threads, 'thread')}{in_processes}, "
        f"CPython {recording.summary.get('python', '?')}{without}",
    )
    names = _FileNames(project, recording)
    ranking = hottest(stacks)
    shown = ranking[:_SHOWN_LINES]
    marked = uncertain(ranking, unknown) & {hot.line for hot in shown}
    if not samples:
        say("The script ended before it was sampled.")
    else:
        if len(processes) > 1:
            console.print(_process_table(stacks, samples, names))
            console.print()
        console.print(_table(shown, samples, marked, names))
    for text in processes_of.notes(recording.summary.get("processes", ())):
        say(f"note: {_in_line(text)}")
    for text in (
        *_ending_notes(recording),
        *([f"note: {inert(symbolized.trouble)}"] if symbolized.trouble else []),
        *_counter_notes(counters),
        *_lost_notes(symbolized.lost, names),
        *_mark_notes(shown, unknown, marked),
    ):
        say(text)


class _FileNames:
    """The names of files as people know them, such as python3.11/json/encoder.py."""

    def __init__(self, project: Project, recording: Recording) -> None:
        self._library = recording.library
        self._root = project.root

    def short(self, file: str) -> str:
        packages = re.split(r"/(?:site|dist)-packages/", file)
        if len(packages) > 1:
            return packages[-1]
        inside = Path(file).is_relative_to(self._library)
        root = self._library.parent if inside else self._root
        return file.removeprefix(f"{root}{os.sep}")


def _table(
    shown: Iterable[HotLine], samples: int, marked: frozenset[SourceLine], names: _FileNames
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    if marked:
        table.add_column("")
    for name in ("here", "with calls"):
        table.add_column(name, justify="right", no_wrap=True)
    # Only what may wrap is made narrower, so it is the texts here that do not wrap.
    for name in ("line", "source"):
        table.add_column(name)
    for hot in shown:
        line = hot.line
        at_least = _AT_LEAST if hot.cut else ""
        table.add_row(
            *([_UNCERTAIN if line in marked else ""] if marked else []),
            f"{100 * hot.own / samples:.1f}%",
            f"{at_least}{100 * hot.total / samples:.1f}%",
            Text(_in_line(line.shown(names.short(line.file))), no_wrap=True, overflow="ellipsis"),
            Text(_in_line(_source(line)), "dim", no_wrap=True, overflow="ellipsis"),
        )
    return table


def _source(line: SourceLine) -> str:
    """Return the text of a line; empty if there is none."""
    # linecache would look for a relative path, such as one given to compile(), in sys.path.
    if not line.number or not Path(line.file).is_absolute():
        return ""
    return linecache.getline(line.file, line.number).strip()[:_SHOWN_SOURCE]


def _in_line(text: str) -> str:
    """Return a text that is safe to print as a part of a line."""
    return re.sub(r"[\r\n]", " ", inert(text))


def _process_table(stacks: Sequence[Stack], samples: int, names: _FileNames) -> Table:
    """Return a table with a row for each process, the one with the most samples first."""
    by_process: dict[str, list[Stack]] = {}
    for stack in stacks:
        by_process.setdefault(stack.process, []).append(stack)
    rows = sorted(
        ((sum(stack.count for stack in own), name, own) for name, own in by_process.items()),
        key=lambda row: (-row[0], row[1]),
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("samples", justify="right")
    for title in ("process", "hottest line"):
        table.add_column(title, no_wrap=True)
    for count, name, own in rows[:_SHOWN_PROCESSES]:
        line = hottest(own)[0].line
        where = Text(_in_line(line.shown(names.short(line.file))))
        table.add_row(f"{100 * count / samples:.1f}%", Text(_in_line(name)), where)
    if more := rows[_SHOWN_PROCESSES:]:
        share = 100 * sum(count for count, _, _ in more) / samples
        table.add_row(f"{share:.1f}%", f"{len(more)} more", "")
    return table


def _ending_notes(recording: Recording) -> list[str]:
    summary = recording.summary
    if recording.trouble:
        return [f"note: {recording.trouble}"]
    if summary.get("status"):
        why = f" ({summary['ended']})" if summary.get("ended") else ""
        return [f"note: the script exited with {summary['status']}{why}"]
    return []


def _counter_notes(counters: Mapping[str, int]) -> list[str]:
    return [
        f"note: {what.format(counted(counters[name], 'sample'))}"
        for name, what in (
            (
                "no_thread",
                "{} of no Python, such as before the script or in native threads, left out",
            ),
            ("no_frame", "{} of threads that ran no Python code, left out"),
            ("unreadable", "{} without outer lines, which were not in memory"),
            ("too_deep", "{} without outer lines, because the stack was too deep"),
        )
        if counters.get(name)
    ]


def _lost_notes(lost: Iterable[Stack], names: _FileNames) -> list[str]:
    """Return of which functions the samples are whose stacks were lost."""
    by_function: Counter[tuple[str, str]] = Counter()
    for stack in lost:
        line = stack.lines[0]
        by_function[line.function, names.short(line.file)] += stack.count
    if not by_function:
        return []
    most = by_function.most_common(_SHOWN_LOSSES)
    parts = [
        f"{count} in {_in_line(f'{function} of {file}' if file else function or 'code of no file')}"
        for (function, file), count in most
    ]
    if more := by_function.total() - sum(count for _, count in most):
        parts.append(f"{more} in other functions")
    samples = counted(by_function.total(), "sample")
    return [f"note: {samples} with only the innermost line, taken too fast: {', '.join(parts)}"]


def _mark_notes(shown: Iterable[HotLine], unknown: int, marked: frozenset[SourceLine]) -> list[str]:
    """Return what the marks in the table mean, and what could have caused some."""
    notes = []
    if any(hot.cut for hot in shown):
        notes.append(
            f"note: a share marked {_AT_LEAST} could be larger, as outer lines are missing"
        )
    if unknown and marked:
        notes.append(
            f"note: {counted(unknown, 'sample')} of unknown code could give a line marked "
            f"{_UNCERTAIN} another place"
        )
    elif unknown:
        notes.append(
            f"note: {counted(unknown, 'sample')} of unknown code could not change this order"
        )
    return notes

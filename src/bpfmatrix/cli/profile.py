"""What the task `profile-python` does: record, symbolize, print the hottest lines, draw."""

import linecache
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from bpfmatrix.cli.console import LiveConsole, make_console, say
from bpfmatrix.cli.logs import SafeWriter
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.text import counted
from bpfmatrix.profile import flamegraph
from bpfmatrix.profile.recording import Recording
from bpfmatrix.profile.script import ScriptRequest
from bpfmatrix.profile.stacks import Stack, hottest
from bpfmatrix.profile.symbolization import symbolize
from bpfmatrix.profile.workload import ProfileOptions, ProfileWorkload
from bpfmatrix.session.pipeline import run_one

__all__ = ["profile"]

_SHOWN_LINES = 15
_SHOWN_SOURCE = 60


def profile(
    project: Project,
    kernel: str,
    request: ScriptRequest,
    options: ProfileOptions,
    flame_graph: Path | None = None,
) -> int:
    """Profile a script on a kernel, print the result, and return the exit status.

    The status is 1 if the script failed or could not be recorded to its end.
    """
    safe = SafeWriter(sys.stdout)

    with LiveConsole([kernel]) as console:
        workload = ProfileWorkload(project, request, options, lambda text: safe(text.encode()))
        recording = run_one(project, kernel, workload, console)
        safe.close()
        console.doing(kernel, "lines", "of the samples")
        resolved = symbolize(recording, workload.script, project.cache).stacks
    _show(project, recording, resolved)
    if flame_graph:
        title = f"{request.name} on {kernel}, CPython {recording.summary.get('python', '?')}"
        try:
            flamegraph.draw(resolved, title, flame_graph)
        except OSError as error:
            raise BpfmatrixError(f"--flamegraph {flame_graph}: {error.strerror}") from None
        say(f"flame graph   {flame_graph}")
    return 1 if recording.summary.get("status") or recording.trouble else 0


def _show(project: Project, recording: Recording, resolved: Sequence[Stack]) -> None:
    console = make_console()
    samples = sum(stack.count for stack in resolved)
    threads = len({stack.thread for stack in resolved})
    console.print(
        f"\n{counted(samples, 'sample')} of {counted(threads, 'thread')}, "
        f"CPython {recording.summary.get('python', '?')}",
    )
    if not samples:
        say("The script ended before it was sampled.")
    else:
        console.print(_table(project, recording, resolved, samples))
    for text in _notes(recording):
        say(text)
    say(f"samples       {project.relative(recording.samples)}")


def _table(
    project: Project, recording: Recording, resolved: Sequence[Stack], samples: int
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("here", "with calls"):
        table.add_column(name, justify="right")
    for name in ("line", "source"):
        table.add_column(name, no_wrap=True)
    for hot in hottest(resolved)[:_SHOWN_LINES]:
        line = hot.line
        source = linecache.getline(line.file, line.number).strip() if line.number else ""
        # A short path, as people know it: json/encoder.py of python3.11.
        inside = Path(line.file).is_relative_to(recording.library)
        root = recording.library.parent if inside else project.root
        file = line.file.removeprefix(f"{root}{os.sep}")
        table.add_row(
            f"{100 * hot.own / samples:.1f}%",
            f"{100 * hot.total / samples:.1f}%",
            Text(line.shown(file)),
            Text(source[:_SHOWN_SOURCE], style="dim"),
        )
    return table


def _notes(recording: Recording) -> list[str]:
    summary, counters = recording.summary, recording.summary.get("counters", {})
    notes = []
    if recording.trouble:
        notes.append(f"note: {recording.trouble}")
    elif summary.get("status"):
        why = f" ({summary['ended']})" if summary.get("ended") else ""
        notes.append(f"note: the script exited with {summary['status']}{why}")
    for name, what in (
        ("lost", "were lost, because they came too fast"),
        ("unreadable", "lack outer frames, which were not in memory"),
        ("too_deep", "lack outer frames, because the stack was deeper than 8192"),
        ("no_thread", "are of threads that ran no Python, such as before the interpreter starts"),
    ):
        if counters.get(name):
            notes.append(f"note: {counted(counters[name], 'sample')} {what}")
    return notes

"""The live console: on a terminal, progress is updated in place; in a pipe, each line comes once.

`LiveConsole` shows what all workloads have in common. `suite_output` and `verify_output` add the
results of their workloads.
"""

import time
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bpfmatrix.cli.github import GithubLog
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.observer import Observer

__all__ = ["STYLES", "LiveConsole", "make_console", "make_table"]

STYLES = {
    Outcome.PASSED: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.INTERRUPTED: "yellow",
}
_MARKS = {Outcome.PASSED: ("✓", "ok"), Outcome.SKIPPED: ("-", "-")}
_RIGHT_COLUMN = 64


def make_console(stderr: bool = False) -> Console:
    """Return a console that does not wrap the lines that it writes into a pipe."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, stderr=stderr)
    if not console.is_terminal:
        console.width = 200
    return console


def make_table(*columns: str, gap: int = 3, header: bool = True) -> Table:
    """Return a table without lines, whose columns have `gap` spaces between them."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=header)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


class LiveConsole(Observer):
    """An observer that prints. If several kernels run side by side, each line names its kernel."""

    def __init__(self, kernels: Sequence[str], stderr: bool = False) -> None:
        self.several = len(kernels) > 1
        self.width = max(len(kernel) for kernel in kernels) if kernels else 0
        self.console = make_console(stderr)
        self.github = GithubLog(self.console)
        self._ascii = not self.console.encoding.lower().startswith("utf")
        self._in_progress: dict[str, tuple[str, str, float | None, float]] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        """Begin to show progress, if there is a terminal."""
        if self.console.is_terminal:
            self._live = Live(
                console=self.console,
                get_renderable=self._progress_lines,
                refresh_per_second=8,
                transient=True,
            )
            self._live.start()
        elif not self.several:
            self.github.begin_group("run")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        self.stop()
        self.github.end_group()

    def stop(self) -> None:
        """Stop showing progress."""
        if self._live:
            self._live.stop()
            self._live = None

    def _progress_lines(self) -> RenderableType:
        lines = []
        for kernel, (name, text, fraction, since) in list(self._in_progress.items()):
            part = f"  {fraction:4.0%}" if fraction is not None else ""
            seconds = f"{time.monotonic() - since:.0f} s"
            line = Text(f"{self._prefix(kernel)}{name:<7} {text}{part}  {seconds}")
            line.overflow, line.no_wrap = "ellipsis", True
            lines.append(Spinner("line" if self._ascii else "dots", line))
        return Group(*lines)

    def _prefix(self, kernel: str) -> str:
        return f"{kernel:<{self.width}}  " if self.several and kernel else ""

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer."""
        known = self._in_progress.get(kernel)
        since = known[3] if known and known[0] == name else time.monotonic()
        self._in_progress[kernel] = (name, text, fraction, since)

    def done(self, kernel: str) -> None:
        """Stop showing progress of this kernel, until its next step."""
        self._in_progress.pop(kernel, None)

    def note(self, text: str) -> None:
        """See Observer."""
        self.console.print(text, style="dim", markup=False)

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Observer."""
        self.done(kernel)
        prefix = self._prefix(kernel)
        # Steps of several kernels are not printed, except that a template failed: no result has it.
        if not prefix or name == "template":
            self.line(Text(f"{prefix}{name:<7} {detail}"), result)

    def mark(self, outcome: Outcome) -> str:
        """Return the sign of an outcome, such as `✓`, or a word if the terminal has no signs."""
        return _MARKS.get(outcome, ("✗", "FAIL"))[self._ascii]

    def line(self, left: Text, right: str, style: str = "dim") -> None:
        """Print a line with a second column."""
        # A Text, not markup: a test may print brackets, and rich's escape() loses a backslash.
        gap = " " * max(2, _RIGHT_COLUMN - left.cell_len)
        self.console.print(Text.assemble(left, gap, (right, style)) if right else left)

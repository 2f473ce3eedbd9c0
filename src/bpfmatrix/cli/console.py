"""The live console: on a terminal, progress is updated in place; in a pipe, each line comes once.

`LiveConsole` shows what all workloads have in common. `suite_output` and `verify_output` add the
results of their workloads.

Texts of guests, kernels and packages are printed by a `SafeConsole` or by `say`, which let nothing
in them reach a terminal or a CI system as a command.
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bpfmatrix.cli import heartbeat
from bpfmatrix.cli.github import GithubLog
from bpfmatrix.host.text import command_positions, counted, inert, printable
from bpfmatrix.results.kernel_label import label_of
from bpfmatrix.results.outcome import GuestRun, Outcome
from bpfmatrix.session.observer import Observer

__all__ = ["STYLES", "LiveConsole", "SafeConsole", "make_console", "make_table", "say", "say_json"]

STYLES = {
    Outcome.PASSED: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.INTERRUPTED: "yellow",
}
_MARKS = {Outcome.PASSED: ("✓", "ok"), Outcome.SKIPPED: ("-", "-")}
_RIGHT_COLUMN = 64
_SHOWN_WARNINGS = 5


class SafeConsole(Console):
    """A console of rich whose texts are data: nothing in them is a command, and no markup.

    With `raw`, texts are printed as they are, which the option --raw asks for.
    """

    def __init__(self, *, stderr: bool = False, raw: bool = False) -> None:
        # Without markup: names of tests may have brackets. Styles are given by Text.
        super().__init__(highlight=False, soft_wrap=True, emoji=False, markup=False, stderr=stderr)
        self._raw = raw

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """See Console. All that is printed comes through here, also each part of a table."""
        segments = super().render(renderable, options)
        return segments if self._raw else _inert(segments)


def _inert(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Make segments of text safe to print; segments of rich's own control codes stay.

    A command of a CI system may be spread over the segments of a line.
    """
    found = [
        each if each.control else Segment(printable(each.text), each.style) for each in segments
    ]
    positions = command_positions("".join(each.text for each in found if not each.control))
    begin = 0
    for each in found:
        if each.control or not positions:
            yield each
            continue
        end, parts, at = begin + len(each.text), [], 0
        while positions and positions[0] <= end:
            parts.append(each.text[at : positions[0] - begin])
            at = positions.pop(0) - begin
        yield Segment(" ".join([*parts, each.text[at:]]), each.style)
        begin = end


def make_console(stderr: bool = False, raw: bool = False) -> SafeConsole:
    """Return a console that does not wrap the lines that it writes into a pipe."""
    console = SafeConsole(stderr=stderr, raw=raw)
    if not console.is_terminal:
        console.width = 200
    return console


def say(text: str = "", *, stderr: bool = False) -> None:
    """Print a line that may have texts of others in it, such as names of files and packages."""
    print(inert(text), file=sys.stderr if stderr else sys.stdout, flush=stderr)


def say_json(data: Any) -> None:
    """Print data as JSON, which no CI system reads as its commands."""
    # json.dumps() escapes control characters. Two `#` can only be in a string of the data.
    print(json.dumps(data, indent=1).replace("##", "\\u0023#"))


def make_table(*columns: str, gap: int = 3, header: bool = True) -> Table:
    """Return a table without lines, whose columns have `gap` spaces between them."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), show_header=header)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


class LiveConsole(Observer):
    """An observer that prints. If several kernels run side by side, each line names its kernel."""

    def __init__(self, kernels: Sequence[str], stderr: bool = False, raw: bool = False) -> None:
        self.several = len(kernels) > 1
        self.kernels = kernels
        self.width = max(len(kernel) for kernel in kernels) if kernels else 0
        self.console = make_console(stderr, raw)
        self.github = GithubLog(self.console)
        self._ascii = not self.console.encoding.lower().startswith("utf")
        self._in_progress: dict[str, tuple[str, str, float | None, float]] = {}
        self._live: Live | None = None
        self._leader: LiveConsole | None = None
        self._followers: list[LiveConsole] = []
        self._said: set[tuple[str, str, str]] = set()
        self.ended: set[str] = set()
        """The kernels that have a result."""

    def follow(self, leader: "LiveConsole") -> None:
        """Share the terminal with another console, which shows the progress of both.

        What both would say of a step is said once. This is for workloads that run side by side.
        """
        self._leader = leader
        self.console, self.github, self._said = leader.console, leader.github, leader._said
        leader._followers.append(self)

    @property
    def shares_terminal(self) -> bool:
        """Whether another workload is shown beside this one."""
        return bool(self._leader or self._followers)

    @property
    def _is_live(self) -> bool:
        """Whether the progress is seen on a terminal."""
        return (self._leader or self)._live is not None

    def __enter__(self) -> Self:
        """Begin to show progress, if there is a terminal."""
        if self._leader:
            return self
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
        heartbeat.clear(self)
        if self._leader:
            return
        self.stop()
        self.github.end_group()

    def print_waiting(self) -> None:
        """Print what waits until the workloads that share the terminal are done."""

    def stop(self) -> None:
        """Stop showing progress."""
        heartbeat.clear(self)
        if self._live:
            self._live.stop()
            self._live = None

    def _progress_lines(self) -> RenderableType:
        lines: list[RenderableType] = []
        for kernel, (name, text, fraction, since) in list(self._in_progress.items()):
            part = f"  {fraction:4.0%}" if fraction is not None else ""
            seconds = f"{time.monotonic() - since:.0f} s"
            whole = f"{self._prefix(kernel)}{name:<7} {text}{part}  {seconds}"
            line = Text(whole.replace("\n", " "))
            line.overflow, line.no_wrap = "ellipsis", True
            lines.append(Spinner("line" if self._ascii else "dots", line))
        lines += [one._progress_lines() for one in self._followers]
        return Group(*lines)

    def label(self, run: GuestRun) -> str:
        """Return the label of a run's kernel, which no other kernel of this console has."""
        return label_of(run, self.kernels)

    def _prefix(self, kernel: str) -> str:
        return f"{kernel:<{self.width}}  " if self.several and kernel else ""

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer."""
        known = self._in_progress.get(kernel)
        since = known[3] if known and known[0] == name else time.monotonic()
        self._in_progress[kernel] = (name, text, fraction, since)
        if name != "watch" and not self._is_live:  # which waits for the user
            heartbeat.doing(self, kernel, f"{name} {text}", since)

    def done(self, kernel: str) -> None:
        """Stop showing progress of this kernel, until its next step."""
        self._in_progress.pop(kernel, None)
        heartbeat.done(self, kernel)

    def note(self, text: str) -> None:
        """See Observer."""
        self.console.print(text, style="dim")

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Observer."""
        self.done(kernel)
        prefix = self._prefix(kernel)
        # Steps of several kernels are not printed, except that a template failed: no result has it.
        if self.shares_terminal and (kernel, name, detail) in self._said:
            return
        self._said.add((kernel, name, detail))
        if not prefix or name == "template":
            self.line(Text(f"{prefix}{name:<7} {detail}"), result)

    def warnings(self, run: GuestRun) -> None:
        """Print how often the kernel complained while the tests ran, and the first complaints."""
        if not run.warnings:
            return
        prefix = self._prefix(run.kernel) or "  "
        count = counted(len(run.warnings), "kernel warning")
        self.console.print(Text(f"{prefix}{count}", "yellow"))
        for warning in run.warnings[:_SHOWN_WARNINGS]:
            self.console.print(Text(f"{prefix}  {warning.summary}"))
        if len(run.warnings) > _SHOWN_WARNINGS:
            self.console.print(Text(f"{prefix}  ... see {run.console}"))

    def mark(self, outcome: Outcome) -> str:
        """Return the sign of an outcome, such as `✓`, or a word if the terminal has no signs."""
        return _MARKS.get(outcome, ("✗", "FAIL"))[self._ascii]

    def _cell(self, outcome: Outcome, passed: int, failed: int) -> Text:
        """Return what a table says of a run: its outcome, and how many passed or failed."""
        count = f" {passed}" if outcome is Outcome.PASSED else ""
        bad = f" {failed}" if failed else ""
        word = "" if outcome in (Outcome.PASSED, Outcome.FAILED) else f" {outcome}"
        return Text(f"{self.mark(outcome)}{count or bad}{word}", STYLES.get(outcome, "red"))

    def _head(self, run: GuestRun, part: str) -> Text:
        """Return the beginning of a run's summary. It names the part, if another one runs too."""
        head = Text(f"{self.label(run):<10}", "bold")
        head.append(f"  {part:<6}" if self.shares_terminal else "", "not bold")
        head.append("  ")
        return head.append(str(run.outcome), STYLES.get(run.outcome, "red"))

    def line(self, left: Text, right: str, style: str = "dim") -> None:
        """Print a line with a second column."""
        # A Text, not markup: a test may print brackets, and rich's escape() loses a backslash.
        gap = " " * max(2, _RIGHT_COLUMN - left.cell_len)
        self.console.print(Text.assemble(left, gap, (right, style)) if right else left)

"""What a person sees of a run: live on a terminal, each line once in a pipe, grouped in CI."""

import contextlib
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from bpfmatrix.config.project import Project
from bpfmatrix.host.versions import neighbour
from bpfmatrix.results.model import KernelRun, Outcome, TestResult

__all__ = ["Report", "counted", "make_console", "telling_lines"]

_STYLES = {
    Outcome.PASSED: "green",
    Outcome.SKIPPED: "yellow",
    Outcome.INTERRUPTED: "yellow",
}
_MARKS = {Outcome.PASSED: ("✓", "ok"), Outcome.SKIPPED: ("-", "-")}
# As support/internal/bpftest writes it.
_VERIFIER_LOG = re.compile(
    r"----- verifier log: (.*?) -----\n.*?----- end of verifier log -----", re.S
)
# A kernel that no entry of kernels.yaml declares has no session.
_AVAILABLE = "matrix -- --available --kernels {}"
_RIGHT_COLUMN = 64
_SHOWN_OUTPUT_LINES = 60
_SHOWN_CONSOLE_LINES = 12
_SHOWN_FAILURES = 10
# How the kernel begins to tell of its end, before its registers and a call trace.
_PANIC = "Kernel panic - not syncing: "


def make_console(stderr: bool = False) -> Console:
    """Return a console that breaks no line of a pipe."""
    console = Console(highlight=False, soft_wrap=True, emoji=False, stderr=stderr)
    if not console.is_terminal:
        console.width = 200
    return console


class Report:
    """A listener that prints. With several kernels side by side, each line names its kernel."""

    def __init__(
        self,
        project: Project,
        kernels: Sequence[str],
        binaries: Sequence[Path] = (),
        stderr: bool = False,
    ) -> None:
        self._project = project
        self._binaries = binaries
        self._several = len(kernels) > 1
        self._width = max(len(kernel) for kernel in kernels) if kernels else 0
        self._console = make_console(stderr)
        self._github = os.environ.get("GITHUB_ACTIONS") == "true"
        self._ascii = not self._console.encoding.lower().startswith("utf")
        self._doing: dict[str, tuple[str, str, float | None, float]] = {}
        self._live: Live | None = None
        self._grouped = False
        self._runs: list[KernelRun] = []

    def __enter__(self) -> Self:
        """Begin to show what goes on, where there is a terminal."""
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._in_progress,
                refresh_per_second=8,
                transient=True,
            )
            self._live.start()
        elif self._github and not self._several:
            self._begin_group("run")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""
        if self._live:
            self._live.stop()
            self._live = None
        self._end_group()

    def _begin_group(self, name: str) -> None:
        self._grouped = True
        self._console.print(f"::group::{name}", markup=False)

    def _end_group(self) -> None:
        if self._grouped:
            self._grouped = False
            self._console.print("::endgroup::", markup=False)

    def _in_progress(self) -> RenderableType:
        lines = []
        for kernel, (name, text, fraction, since) in list(self._doing.items()):
            who = f"{kernel:<{self._width}}  " if self._several and kernel else ""
            part = f"  {fraction:4.0%}" if fraction is not None else ""
            seconds = f"{time.monotonic() - since:.0f} s"
            line = Text(f"{who}{name:<7} {text}{part}  {seconds}", overflow="ellipsis")
            line.no_wrap = True
            lines.append(Spinner("line" if self._ascii else "dots", line))
        return Group(*lines)

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Listener."""
        known = self._doing.get(kernel)
        since = known[3] if known and known[0] == name else time.monotonic()
        self._doing[kernel] = (name, text, fraction, since)

    def note(self, text: str) -> None:
        """Print a line that belongs to no kernel."""
        self._console.print(text, style="dim", markup=False)

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Listener."""
        self._doing.pop(kernel, None)
        who = f"{kernel:<{self._width}}  " if self._several and kernel else ""
        # Of many kernels only what went wrong; with a template, that is no test's result.
        if not who or name == "template":
            self._line(Text(f"{who}{name:<7} {detail}"), result)

    def test(self, kernel: str, result: TestResult) -> None:
        """See Listener."""
        surprising = result.outcome is Outcome.PASSED and bool(result.expected)
        calm = result.outcome in (Outcome.PASSED, Outcome.SKIPPED) or bool(result.expected)
        if self._several and calm and not surprising:
            return
        who = f"{kernel:<{self._width}}" if self._several else ""
        style = "yellow" if result.expected else _STYLES.get(result.outcome, "red")
        text = Text.assemble(f"{who}  ", (self._mark(result.outcome), style), f" {result.name}")
        if surprising:
            self._line(text, f"passed, not as expected: {result.expected}", style)
        elif result.expected:
            self._line(text, f"{result.outcome} as expected: {result.expected}", style)
        elif result.outcome is Outcome.PASSED:
            self._line(text, f"{result.seconds:.2f} s")
        else:
            said = f"{result.outcome}: {result.reason}" if result.reason else str(result.outcome)
            self._line(text, said, style)

    def finished(self, run: KernelRun) -> None:
        """See Listener."""
        self._doing.pop(run.kernel, None)
        self._runs.append(run)
        if self._github:
            if self._several:
                self._list_tests(run)
            self._end_group()
        self._summary(run)
        if not self._several:
            self._explain(run)

    def _list_tests(self, run: KernelRun) -> None:
        self._begin_group(_shown_release(run))
        for test in run.tests:
            reason = f"  {test.reason}" if test.reason else ""
            self._console.print(f"  {test.outcome:<8} {test.name}{reason}", markup=False)

    def matrix(self, runs: Sequence[KernelRun], seconds: float) -> None:
        """Print the table of all kernels, and then what did not pass."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
        table.add_column("")
        for run in runs:
            table.add_column(_shown_release(run), justify="left")
        table.add_row("tests", *(self._cell(run) for run in runs))
        table.add_row("skipped", *(str(run.count(Outcome.SKIPPED) or "") for run in runs))
        total = f"side by side {seconds:.1f} s"
        table.add_row("time", *("cached" if r.cached else f"{r.seconds:.1f} s" for r in runs))
        self._console.print()
        self._console.print(table)
        self._console.print(total)
        for run in runs:
            self._explain(run)

    def _cell(self, run: KernelRun) -> Text:
        style = _STYLES.get(run.outcome, "red")
        count = f" {run.count(Outcome.PASSED)}" if run.outcome is Outcome.PASSED else ""
        bad = f" {len(run.failures)}" if run.failures else ""
        word = "" if run.outcome in (Outcome.PASSED, Outcome.FAILED) else f" {run.outcome}"
        return Text(f"{self._mark(run.outcome)}{count or bad}{word}", style)

    def _summary(self, run: KernelRun) -> None:
        style = _STYLES.get(run.outcome, "red")
        passed = run.count(Outcome.PASSED)
        counts = [counted(passed, "test")]
        if run.failures:
            counts[0] += " passed"
            counts.append(f"{len(run.failures)} failed")
        if run.expected_failures:
            counts.append(f"{len(run.expected_failures)} failed as expected")
        if run.unexpected_passes:
            counts.append(f"{len(run.unexpected_passes)} passed, not as expected")
        if skipped := run.count(Outcome.SKIPPED):
            counts.append(f"{skipped} skipped")
        name = f"{_shown_release(run):<10}"
        text = f"[bold]{name}[/]  [{style}]{run.outcome}[/]"
        if run.cached:
            text += f" (cached, {run.age} ago)"
        if run.tests:
            text += f"  {', '.join(counts)}"
        ran = bool(run.seconds) and not run.cached
        self._console.print(f"{text}  {run.seconds:.1f} s" if ran else text)
        if run.outcome is not Outcome.PASSED:
            self._annotate(f"{name.strip()} {run.outcome}: {run.reason}")

    def _annotate(self, error: str) -> None:
        """Let GitHub show an error beside the workflow."""
        if self._github:
            # A workflow command is one line; so GitHub's runner reads these three.
            said = error.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
            self._console.print(f"::error::{said}", markup=False)

    def _explain(self, run: KernelRun) -> None:
        """Say why a kernel did not pass: what, the lines that explain it, and where the rest is."""
        if run.outcome is Outcome.PASSED:
            return
        who, shown = _shown_release(run), self._console.print
        shown()
        shown(Text.assemble((who, "bold"), "  ", (run.outcome, "red"), f": {run.reason}"))
        for test in run.failures[:_SHOWN_FAILURES]:
            mark = self._mark(test.outcome)
            shown(Text.assemble("  ", (mark, "red"), " ", (test.name, "bold")))
            for line in _last_lines(_folded(test.output), _SHOWN_OUTPUT_LINES):
                shown(f"      {line}", markup=False)
        if len(run.failures) > _SHOWN_FAILURES:
            shown(f"  ... and {len(run.failures) - _SHOWN_FAILURES} more")
        for line in self._console_lines(run):
            shown(f"      {line}", markup=False, style="dim")
        for line in run.trace:
            shown(f"        {line}", markup=False)
        for log in run.logs:
            shown(f"  full output   {log}", markup=False)
        for core in run.cores:
            shown(f"  core file     {core}", markup=False)
        if run.console:
            shown(f"  console       {run.console}", markup=False)
        if run.failures:
            top = run.failures[0].name.split("/")[0]
            declared = run.kernel in self._project.config.kernels
            session = f"kernel-{run.kernel} --" if declared else _AVAILABLE.format(run.kernel)
            given = "".join(f" --binary {path}" for path in self._binaries)
            shown(f"  run it alone  nox -s {session} --run {top}{given}", markup=False)
            if declared:
                words = f"--kernel {run.kernel} --run {top}{given}"
                shown(f"  look inside   invoke debug {words}", markup=False)
            if good := self._passed_elsewhere(run, top):
                words = f"--run {top}{given} --good {good} --bad {run.kernel}"
                shown(f"  since when    invoke bisect {words}", markup=False)

    def _passed_elsewhere(self, bad: KernelRun, test: str) -> str:
        """Return a kernel on which a test passed, subtests included, that failed on another one."""
        good = [run.kernel for run in self._runs if run.arch == bad.arch and _passed(run, test)]
        return neighbour(bad.kernel, good)

    def _console_lines(self, run: KernelRun) -> list[str]:
        """Return the last lines of the console that came while tests ran, or of all if none did."""
        if not run.console:
            return []
        with contextlib.suppress(OSError):
            text = (self._project.root / run.console).read_bytes()[run.console_bytes_before_tests :]
            lines = telling_lines(text.decode(errors="replace"))
            if not run.trace:
                return lines
            # The trace follows, with files and lines.
            trace = (n for n, line in enumerate(lines, 1) if line.lower().endswith("call trace:"))
            return lines[: next(trace, len(lines))]
        return []

    def _mark(self, outcome: Outcome) -> str:
        return _MARKS.get(outcome, ("✗", "FAIL"))[self._ascii]

    def _line(self, left: Text, right: str, style: str = "dim") -> None:
        # No markup: what is in brackets is a test's, and rich's escape() loses a backslash.
        gap = " " * max(2, _RIGHT_COLUMN - left.cell_len)
        self._console.print(Text.assemble(left, gap, (right, style)) if right else left)


def counted(count: int, one: str, more: str = "") -> str:
    """Return a number of things, such as `1 test` or `2 tests`."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def _passed(run: KernelRun, test: str) -> bool:
    """Whether a test passed; of one with subtests, only these are listed."""
    found = {one.outcome for one in run.tests if one.name.split("/")[0] == test}
    return Outcome.PASSED in found and found <= {Outcome.PASSED, Outcome.SKIPPED}


def _shown_release(run: KernelRun) -> str:
    return run.version or run.kernel


def _folded(output: str) -> str:
    """Leave out the verifier's logs: what they come to stands before them, all of it in a file."""
    return _VERIFIER_LOG.sub(
        lambda log: f"(the verifier's log of {log[1]}: {log[0].count(chr(10)) - 1} lines)", output
    )


def telling_lines(console: str) -> list[str]:
    """Return the last lines of a console, or the first ones of a panic."""
    lines = console.splitlines()
    panics = [number for number, line in enumerate(lines) if _PANIC in line]
    if panics:
        return lines[panics[-1] :][:_SHOWN_CONSOLE_LINES]
    return _last_lines(console, _SHOWN_CONSOLE_LINES) if lines else []


def _last_lines(text: str, count: int) -> list[str]:
    lines = text.rstrip().splitlines()
    if len(lines) <= count:
        return lines
    return [f"... {len(lines) - count} lines before", *lines[-count:]]

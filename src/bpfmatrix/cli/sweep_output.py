"""The console of `invoke sweep`: what is new, a line for each run, and then only differences."""

import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime

from rich.text import Text

from bpfmatrix.cli.console import STYLES, LiveConsole
from bpfmatrix.config.models import Config
from bpfmatrix.config.project import Project
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import counted
from bpfmatrix.kernels.console_log import last_lines
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.names import Labels
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import ProgramResult
from bpfmatrix.sweep.differences import Compared, Difference, Effect
from bpfmatrix.sweep.plan import Standing
from bpfmatrix.sweep.report import SweepReport, Swept, bisection_ends
from bpfmatrix.sweep.state import Result

__all__ = ["SweepConsole"]

# The kernels that were swept, and the ids of all that can be had.
_Known = tuple[Config, Collection[str]]
_SHOWN = 10
_SHOWN_LINES = 8
_NAMES = {Effect.REGRESSION: "newly fails", Effect.FIX: "newly passes", Effect.OTHER: "differs"}


class SweepConsole(LiveConsole):
    """The console of a sweep."""

    def __init__(self, project: Project, stderr: bool = False, raw: bool = False) -> None:
        """`project` is as kernels.yaml declares it."""
        super().__init__((), stderr=stderr, raw=raw)
        self.several = True  # so that no line is printed for each step
        self.keep: Callable[[Result], None] = lambda _: None
        """Is given each result as soon as it is there."""
        self._project = project
        self._passed: dict[str, int] = {}

    def begin(self, report: SweepReport) -> None:
        """Print what is new, before anything runs."""
        kernels = report.kernels
        self.kernels = [one.id for one in kernels]
        self.width = max(len(id) for id in (*self.kernels, *report.unavailable))
        shown = self.console.print
        count = counted(len(kernels), "kernel")
        since = (
            f"the last sweep was on {_day(report.swept_at)}"
            if report.swept_at
            else "the first sweep, with which later ones are compared"
        )
        if report.swept_at is None and any(one.before for one in kernels):
            since = "compared with sweeps of some kernels"
        shown(Text(f"sweep   {count}, {since}"))
        for one in kernels:
            if one.standing in (Standing.NEW, Standing.MOVED):
                shown(Text(f"{self._prefix(one.id)}{_news(one)}"))
        for standing, text in (
            (Standing.CHANGED, "the tests, the objects or their settings have changed"),
            (Standing.SAME, "nothing new"),
        ):
            same = [one.id for one in kernels if one.standing is standing]
            if same:
                shown(Text(f"{text}: {', '.join(same)}", "dim"))
        for id, why in report.unavailable.items():
            shown(Text(f"{self._prefix(id)}is not available: {why}", "yellow"))
        for id, version in report.gone.items():
            shown(Text(f"{id} ({version}) is no longer offered by any source", "yellow"))
        for note in report.notes:
            shown(Text(note, "yellow"))

    def step(self, kernel: str, name: str, detail: str, result: str) -> None:
        """See Observer. Only a template that failed is told, since no result has that."""
        if name == "template":
            super().step(kernel, name, detail, result)
        else:
            self.done(kernel)

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer. Single results are only counted."""
        if result.outcome is Outcome.PASSED:
            self._passed[kernel] = self._passed.get(kernel, 0) + 1
        self.doing(kernel, "passed", str(self._passed.get(kernel, 0)))

    def finished(self, run: Result) -> None:
        """See Observer."""
        self.done(run.kernel)
        self._passed.pop(run.kernel, None)
        self.keep(run)
        results = run.tests if isinstance(run, KernelRun) else run.programs
        noun = "test" if isinstance(run, KernelRun) else "program"
        parts = [counted(len(results), noun)]
        for outcome in dict.fromkeys(one.outcome for one in results):
            if outcome is not Outcome.PASSED:
                parts.append(f"{sum(one.outcome is outcome for one in results)} {outcome}")
        cached = " (cached)" if isinstance(run, KernelRun) and run.cached else ""
        head = Text(f"{self._prefix(run.kernel)}{self.label(run):<10}  ")
        head.append(f"{run.outcome}{cached}", STYLES.get(run.outcome, "red"))
        head.append(f"  {', '.join(parts)}  {run.seconds:.1f} s")
        self.console.print(head)

    def report(self, report: SweepReport, config: Config, offered: Collection[str]) -> None:
        """Print the differences, and a line that sums them up.

        `config` has the kernels that were swept, and `offered` are the ids of all that can be had.
        """
        for effect in Effect:
            for one in report.compared:
                found = one.having(effect)
                if found:
                    self._differences(one, effect, found, (config, offered))
        self.console.print()
        self.console.print(Text(_summary(report), "red" if report.exit_status else ""))

    def _differences(
        self, one: Compared, effect: Effect, found: Sequence[Difference], known: _Known
    ) -> None:
        shown = self.console.print
        base = f", compared with {self.label(one.base)}" if one.base else ""
        if one.base and one.base.version == one.now.version:
            base = ", compared with the last sweep"
        style = {Effect.REGRESSION: "red", Effect.FIX: "green"}.get(effect, "")
        shown()
        name = _NAMES[effect] if one.base or effect is not Effect.REGRESSION else "fails"
        shown(Text.assemble((self.label(one.now), "bold"), "  ", (name, style), base))
        names = Labels.of_results(one.now.tests) if isinstance(one.now, KernelRun) else None
        for difference in found[:_SHOWN]:
            self._difference(one, effect, difference, names)
        if len(found) > _SHOWN:
            shown(f"  ... and {len(found) - _SHOWN} more")
        if effect is Effect.REGRESSION:
            self._suggest(one, found[0], names, known)

    def _difference(
        self, one: Compared, effect: Effect, difference: Difference, names: Labels | None
    ) -> None:
        shown = self.console.print
        result = difference.result
        mark = self.mark(result.outcome) if result else self.mark(one.now.outcome)
        if effect is Effect.OTHER:
            mark = "-"
        if isinstance(result, TestResult) and names:
            name = names.of(result)
        else:
            name = " ".join(filter(None, (difference.group, difference.name)))
        shown(Text(f"  {mark} {name or 'the kernel'}  {difference.text}"))
        if effect is not Effect.REGRESSION:
            return
        for line in _lines(result):
            shown(Text(f"      {line}", "dim"))
        if isinstance(result, ProgramResult) and result.log:
            shown(f"      full verifier log  {result.log}")
        if not difference.name and one.now.console:
            shown(f"      console  {one.now.console}")
        if text := _telling(one, difference):
            self.github.annotate(text)

    def _suggest(
        self, one: Compared, first: Difference, names: Labels | None, known: _Known
    ) -> None:
        """Print what to type next to look into the first regression of a kernel."""
        id = one.now.kernel
        declared = self._project.config.has(id)
        result = first.result
        if isinstance(result, ProgramResult):
            chosen = f"--program {shlex.quote(result.program)} {shlex.quote(result.object)}"
            more = "" if declared else "--available "
            alone = command(f"verify {more}--kernels {id} {shlex.quote(result.object)}")
        elif isinstance(result, TestResult) and names:
            chosen = f"--run {shlex.quote(names.selecting(result))}"
            task = f"run --kernel {id}" if declared else f"matrix --available --kernels {id}"
            alone = command(f"{task} {chosen}")
        else:
            return
        shown = self.console.print
        shown(Text(f"    run it alone  {alone}"))
        ends = bisection_ends(one, *known)
        if ends is None:
            return
        if ends.missing:
            gone = " or ".join(ends.missing)
            text = f"between {ends.good} and {ends.bad} (no source has {gone} for a bisection)"
            shown(Text(f"    since when    {text}"))
        else:
            words = command(f"bisect {chosen} --good {ends.good} --bad {ends.bad}")
            shown(Text(f"    since when    {words}"))


def _news(one: Swept) -> str:
    if one.standing is Standing.NEW:
        return f"new: {one.version}"
    if one.before == one.version:
        return f"{one.version}, built again"
    return f"{one.before or 'an unknown release'} -> {one.version}"


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _lines(result: TestResult | ProgramResult | None) -> Iterable[str]:
    """Give the few lines that explain a failure, if there are any."""
    if isinstance(result, TestResult):
        yield from last_lines(result.output, _SHOWN_LINES)
    elif isinstance(result, ProgramResult):
        if result.source:
            yield result.source
        yield from last_lines(result.verifier_tail, _SHOWN_LINES)


def _telling(one: Compared, difference: Difference) -> str:
    name = f" {difference.name}" if difference.name else ""
    return f"{one.now.kernel} ({one.now.version}){name}: {difference.text}"


def _summary(report: SweepReport) -> str:
    """Return the whole report in one line."""
    if not report.compared:
        if report.swept_at is None:
            return "nothing was run"
        return f"nothing new since {_day(report.swept_at)}"
    ran = len({one.now.kernel for one in report.compared})
    is_first = all(one.base is None for one in report.compared)
    parts = [
        counted(number, noun)
        for effect, noun in (
            (Effect.REGRESSION, "failure" if is_first else "regression"),
            (Effect.FIX, "fix"),
            (Effect.OTHER, "other difference"),
        )
        if (number := report.having(effect))
    ]
    text = f"{', '.join(parts) or 'no differences'} on {counted(ran, 'kernel')}"
    if report.inconclusive:
        ids = dict.fromkeys(one.kernel for one in report.inconclusive)
        text += f"; could not be run, and are tried again next time: {', '.join(ids)}"
    if still := _still_failing(report):
        text += f"; {counted(still, 'failure')} as before ({command('report')})"
    return text


def _still_failing(report: SweepReport) -> int:
    """Return how many tests and programs fail that failed in the last sweep, too."""
    failing = 0
    for one in report.compared:
        results = one.now.tests if isinstance(one.now, KernelRun) else one.now.programs
        failing += sum(each.outcome not in FINE and not each.expected for each in results)
        failing -= sum(each.name != "" for each in one.having(Effect.REGRESSION))
    return max(0, failing)

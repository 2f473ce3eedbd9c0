"""What a person sees of a verification: live on a terminal, then tables, failures, comparisons."""

import shlex
import time
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from bpfmatrix.cli.console import LiveConsole, make_console
from bpfmatrix.config.project import Project
from bpfmatrix.host.text import counted
from bpfmatrix.host.versions import neighbour
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from bpfmatrix.verify.compare import Change, Cost
from bpfmatrix.verify.source import AnnotatedProgram

__all__ = ["VerifyConsole", "print_annotated"]

_SHOWN_FAILURES = 10
_SHOWN_TAIL_LINES = 14
# A table of more programs shows only those that something is to be said of.
_WHOLE_TABLE = 60
# Between two columns.
_GAP = 3


class VerifyConsole(LiveConsole):
    """The console of a verification on one or several kernels."""

    def __init__(self, project: Project, kernels: Sequence[str], stderr: bool = False) -> None:
        super().__init__(kernels, stderr=stderr)
        self._project = project
        self._counts: dict[str, int] = {}
        self._began = time.monotonic()

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        assert isinstance(result, ProgramResult)
        self._counts[kernel] = self._counts.get(kernel, 0) + 1
        self.doing(kernel, "load", f"{counted(self._counts[kernel], 'program')}, {result.program}")

    def finished(self, run: KernelRun | Verification) -> None:
        """See Observer."""
        assert isinstance(run, Verification)
        self.done(run.kernel)
        if self.several:
            self._outcome(run)

    def show(self, verifications: Sequence[Verification], statistics: bool = False) -> None:
        """Print the tables, and what did not load."""
        if self.several:
            self.console.print()
            self._matrix(verifications)
        for one in verifications:
            if one.programs and (statistics or not self.several):
                self.console.print()
                if self.several:
                    self.console.print(Text(_release(one), "bold"))
                self._statistics(one)
        if not self.several:
            self.console.print()
            self._outcome(verifications[0])
        else:
            total = time.monotonic() - self._began
            self.console.print(f"side by side {total:.1f} s", markup=False)
        self._explain_failures(verifications)

    def _outcome(self, one: Verification) -> None:
        style = {Outcome.PASSED: "green", Outcome.SKIPPED: "yellow"}.get(one.outcome, "red")
        parts = [f"{_count(one, Outcome.PASSED)} of {counted(len(one.programs), 'program')} loaded"]
        bad = _failures(one)
        counts = {
            "failed": len(bad),
            "failed as expected": sum(
                p.outcome not in FINE and bool(p.expected) for p in one.programs
            ),
            "loaded, not as expected": sum(
                p.outcome is Outcome.PASSED and bool(p.expected) for p in one.programs
            ),
            "skipped": _count(one, Outcome.SKIPPED),
        }
        parts += [f"{count} {what}" for what, count in counts.items() if count]
        said = ", ".join(parts) if one.programs else one.reason.splitlines()[0]
        text = Text.assemble((f"{_release(one):<10}", "bold"), "  ", (str(one.outcome), style))
        seconds = f"  {one.seconds:.1f} s" if one.seconds else ""
        self.console.print(Text.assemble(text, f"  {said}{seconds}"))
        if one.outcome not in FINE:
            self.github.annotate(f"{_release(one)} {one.outcome}: {one.reason}")

    def _matrix(self, verifications: Sequence[Verification]) -> None:
        """Print programs by kernels, in as many tables as the kernels need to be side by side."""
        keys = _keys(verifications)
        known = [{(p.object, p.program): p for p in one.programs} for one in verifications]
        rows = {key: [results.get(key) for results in known] for key in keys}
        large = len(keys) > _WHOLE_TABLE
        dull = {key for key, cells in rows.items() if large and _is_dull(cells)}
        shown = {
            key: [self._program_cell(cell) for cell in cells]
            for key, cells in rows.items()
            if key not in dull
        }
        first = max((len(program) + 2 for _, program in shown), default=0)
        first = max(first, *(min(len(object), 40) for object, _ in shown), 7) if shown else 7
        widths = [
            max(len(_release(one)), 7, *(cells[number].cell_len for cells in shown.values()), 0)
            for number, one in enumerate(verifications)
        ]
        for columns in _in_width(widths, self.console.width - first - _GAP):
            table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
            table.add_column("program", overflow="fold")
            for number in columns:
                table.add_column(_release(verifications[number]), no_wrap=True)
            object = ""
            for key, cells in shown.items():
                if key[0] != object:
                    object = key[0]
                    table.add_row(Text(object, "dim"))
                table.add_row(f"  {key[1]}", *(cells[number] for number in columns))
            seconds = [f"{verifications[number].seconds:.1f} s" for number in columns]
            table.add_row("time", *seconds, style="dim")
            self.console.print(table)
            if columns[-1] != len(verifications) - 1:
                self.console.print()
        if dull:
            said = f"{counted(len(dull), 'program')} more, loaded everywhere"
            self.console.print(said, markup=False, style="dim")

    def _program_cell(self, result: ProgramResult | None) -> Text:
        if result is None:
            return Text("")
        mark = self.mark(result.outcome)
        insns = result.statistics.instructions_processed
        if result.outcome is Outcome.PASSED:
            odd = " unexpected" if result.expected else ""
            style = "yellow" if odd else "green"
            return Text(f"{mark} {insns:,}{odd}" if insns is not None else f"{mark}{odd}", style)
        if result.outcome is Outcome.SKIPPED:
            return Text(f"{mark} {result.code or ''}".rstrip(), "yellow")
        expected = " expected" if result.expected else ""
        style = "yellow" if expected else "red"
        return Text(
            f"{mark} {_SHORT.get(result.code, result.code) or result.outcome}{expected}", style
        )

    def _statistics(self, one: Verification) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("program", "type", ""):
            table.add_column(name, overflow="fold")
        for name in (
            "processed",
            "of limit",
            "states",
            "peak",
            "stack",
            "insns",
            "jited",
            "memory",
            "time",
        ):
            table.add_column(name, justify="right", no_wrap=True)
        object = ""
        for result in one.programs:
            if result.object != object:
                object = result.object
                table.add_row(Text(object, "dim"))
            s = result.statistics
            share = (
                f"{s.instructions_processed / s.instructions_limit:.1%}"
                if s.instructions_processed is not None and s.instructions_limit
                else ""
            )
            mark = self._program_cell(result)
            if result.outcome is Outcome.PASSED:
                words = [self.mark(result.outcome)]
                words += ["attached"] if result.attached else []
                words += ["unexpected"] if result.expected else []
                mark = Text(" ".join(words))
                mark.style = "yellow" if result.expected else "green"
            table.add_row(
                f"  {result.program}",
                result.type,
                mark,
                _number(s.instructions_processed),
                share,
                _number(s.total_states),
                _number(s.peak_states),
                _number(s.stack_depth),
                _number(s.program_instructions),
                _bytes(s.jited_bytes),
                _bytes(s.memory_bytes),
                f"{s.verifier_us / 1000:,.1f} ms" if s.verifier_us is not None else "",
            )
        self.console.print(table)
        if one.maps:
            memory = [m.memory_bytes for m in one.maps if m.memory_bytes is not None]
            if memory:
                said = f"{counted(len(one.maps), 'map')}, {_bytes(sum(memory))} of memory"
                self.console.print(said, markup=False)

    def _explain_failures(self, verifications: Sequence[Verification]) -> None:
        """Say why kernels and programs failed; what failed alike on several kernels, once."""
        shown = self.console.print
        alike: dict[tuple[str, ...], list[tuple[Verification, ProgramResult]]] = {}
        for one in verifications:
            bad = _failures(one)
            if one.outcome not in FINE and (not bad or one.outcome is not Outcome.FAILED):
                said = Text.assemble((_release(one), "bold"), "  ", (str(one.outcome), "red"))
                shown()
                shown(Text.assemble(said, f": {one.reason}"))
                if one.console:
                    shown(f"  console            {one.console}", markup=False)
            for result in bad:
                if result.code is not Code.NOT_RUN:
                    key = (result.object, result.program, str(result.code), result.reason)
                    alike.setdefault(key, []).append((one, result))
        for failed in list(alike.values())[:_SHOWN_FAILURES]:
            self._explain_program(failed, verifications)
        if len(alike) > _SHOWN_FAILURES:
            shown(f"\n... and {len(alike) - _SHOWN_FAILURES} more failures", markup=False)

    def _explain_program(
        self,
        failed: Sequence[tuple[Verification, ProgramResult]],
        among: Sequence[Verification],
    ) -> None:
        shown = self.console.print
        # Newer kernels tell more.
        one, result = max(failed, key=lambda pair: len(pair[1].verifier_tail))
        who = ", ".join(_release(other) for other, _ in failed)
        what = Text.assemble((who, "bold"), "  ", (result.program, "bold"))
        shown()
        shown(Text.assemble(what, f" of {result.object}: {result.reason or result.outcome}"))
        lines = result.verifier_tail.splitlines()
        if len(lines) > _SHOWN_TAIL_LINES:
            lines = ["...", *lines[-_SHOWN_TAIL_LINES:]]
        for line in lines:
            shown(f"    {line}", markup=False)
        if result.code:
            shown(f"  code               {result.code}", markup=False)
        for log in [other.log for _, other in failed if other.log]:
            shown(f"  full verifier log  {log}", markup=False)
        if result.log:
            words = shlex.join(
                [result.object, "--annotate", result.program, "--kernel", one.kernel]
            )
            shown(f"  cost of its lines  invoke verify {words}", markup=False)
        good = neighbour(one.kernel, _loaded_on(among, one.arch, result))
        if good:
            program = ("--program", result.program, result.object)
            words = shlex.join([*program, "--good", good, "--bad", one.kernel])
            shown(f"  since when         invoke bisect {words}", markup=False)

    def costs(self, found: Iterable[Cost]) -> None:
        """Print which programs cost much more on one kernel than on another."""
        lines = [
            f"  {cost.program} costs {cost.factor:.1f} times as much on {cost.dear} "
            f"({cost.most:,} instructions) as on {cost.cheap} ({cost.least:,})"
            for cost in found
        ]
        if lines:
            self.console.print()
        for line in lines[:_SHOWN_FAILURES]:
            self.console.print(line, markup=False)
        if len(lines) > _SHOWN_FAILURES:
            self.console.print(f"  ... and {len(lines) - _SHOWN_FAILURES} more", markup=False)

    def changes(self, base: str, found: Sequence[Change]) -> None:
        """Print what is different from a saved verification, the regressions first."""
        shown = self.console.print
        shown()
        if not found:
            shown(f"nothing changed against {base}", markup=False)
            return
        worse = sum(change.regression for change in found)
        shown(
            f"against {base}: {counted(worse, 'regression')}, "
            f"{counted(len(found) - worse, 'other change')}",
            markup=False,
        )
        for change in sorted(found, key=lambda one: not one.regression):
            mark = self.mark(Outcome.FAILED if change.regression else Outcome.PASSED)
            style = "red" if change.regression else "green"
            who = f"{change.kernel:<{self.width}}  " if self.several else ""
            shown(Text.assemble("  ", (mark, style), f" {who}{change.program}: {change.text}"))


# Codes that say it in fewer letters; the whole ones stand below the table.
_SHORT: dict[Code | None, str] = {
    Code.VERIFIER_REJECTED: "rejected",
    Code.UNSUPPORTED_PROGRAM_TYPE: "no program type",
    Code.UNSUPPORTED_MAP_TYPE: "no map type",
    Code.UNSUPPORTED_HELPER: "no helper",
    Code.UNSUPPORTED_KFUNC: "no kfunc",
    Code.ATTACH_TARGET_MISSING: "no target",
}


def _release(one: Verification) -> str:
    return one.version or one.kernel


def _count(one: Verification, outcome: Outcome) -> int:
    return sum(result.outcome is outcome for result in one.programs)


def _failures(one: Verification) -> list[ProgramResult]:
    return [p for p in one.programs if p.outcome not in FINE and not p.expected]


def _loaded_on(among: Iterable[Verification], arch: str, bad: ProgramResult) -> Iterator[str]:
    """Give the kernels of an architecture on which a program loaded that failed on another one."""
    for one in among:
        for result in one.programs if one.arch == arch else ():
            is_it = (result.object, result.program) == (bad.object, bad.program)
            if is_it and result.outcome is Outcome.PASSED:
                yield one.kernel


def _keys(verifications: Iterable[Verification]) -> list[tuple[str, str]]:
    """Return each program once, those of an object together."""
    found = dict.fromkeys((p.object, p.program) for one in verifications for p in one.programs)
    objects = list(dict.fromkeys(object for object, _ in found))
    return sorted(found, key=lambda key: objects.index(key[0]))


def _is_dull(cells: Sequence[ProgramResult | None]) -> bool:
    return all(c is not None and c.outcome is Outcome.PASSED and not c.expected for c in cells)


def _in_width(widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Divide columns among tables: each gets the next ones that it has room for, at least one."""
    columns: list[int] = []
    used = 0
    for number, width in enumerate(widths):
        if columns and used + width + _GAP > room:
            yield columns
            columns, used = [], 0
        columns.append(number)
        used += width + _GAP
    if columns:
        yield columns


def _number(value: int | None) -> str:
    return f"{value:,}" if value is not None else ""


def _bytes(value: int | None) -> str:
    if value is None:
        return ""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"


def print_annotated(program: str, release: str, found: AnnotatedProgram) -> None:
    """Print the source of a program with what each line costs."""
    console = make_console()
    console.print(
        f"{program} on {release}: {found.instructions:,} instructions, walked {found.walks:,} times"
    )
    most = max((line.walks or 0 for lines in found.files.values() for line in lines), default=0)
    for file, lines in found.files.items():
        console.print()
        console.print(
            Text.assemble((f"{'insns':>6} {'walked':>9} {'':>6}            ", "dim"), file)
        )
        before = None
        for line in lines:
            if before is not None and line.number > before + 1:
                console.print(Text(f"{'':>23}       ...", "dim"))
            before = line.number
            if line.instructions is None:
                cells = f"{'':>6} {'':>9} {'':>6} {'':<8}"
            else:
                walks = line.walks or 0
                share = f"{walks / found.walks:.0%}" if found.walks else ""
                bar = "█" * round(8 * walks / most) if most else ""
                if not console.encoding.lower().startswith("utf"):
                    bar = bar.replace("█", "#")
                cells = f"{line.instructions:>6,} {walks:>9,} {share:>6} {bar:<8}"
            hot = bool(line.walks) and (line.walks or 0) * 4 >= max(most, 1)
            text = Text(cells, "red" if hot else "")
            console.print(
                Text.assemble(text, (f" {line.number:>5}", "dim"), f" {line.text}".expandtabs(4))
            )
    if found.unknown_walks:
        console.print(f"{found.unknown_walks:,} walks of instructions without a line", markup=False)

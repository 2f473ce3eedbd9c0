"""What a run prints of programs that its tests could not load: the line of C, once for all kernels.

The form is that of `verify`: the last lines of C, the instruction, its registers, the verifier's
message, the code, and where the complete log lies.
"""

import errno
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from bpfmatrix.cli.console import SafeConsole
from bpfmatrix.cli.github import GithubLog
from bpfmatrix.cli.verify_told import NOTHING, Told, failure_on, listed, test_of
from bpfmatrix.config.project import Project
from bpfmatrix.report import next_commands
from bpfmatrix.report.next_commands import FailedProgram, FailedTest
from bpfmatrix.results.kernel_run import KernelRun, Rejection, TestResult
from bpfmatrix.verify.plan import DEFAULT_LOADER

__all__ = ["Alike", "RejectionPrinter", "alike"]

_SHOWN = 10
_SHOWN_LINES = 14
_SHOWN_LOGS = 6
# What kernels before 5.18 call a number, others call a scalar ("bpf: Replace tnum with var_off").
_INV = re.compile(r"(?<==)inv(?=\d|\b)")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


@dataclass
class Alike:
    """Rejections of one program, for one reason, on one or several kernels and in several tests."""

    pairs: list[tuple[KernelRun, Rejection]] = field(default_factory=list)

    @property
    def kernels(self) -> list[KernelRun]:
        """The runs that have one, each once."""
        return list({run.kernel: run for run, _ in self.pairs}.values())

    @property
    def is_reason(self) -> bool:
        """Whether it may be why a test failed: see `KernelRun.is_reason`."""
        return any(run.is_reason(one) for run, one in self.pairs)

    @property
    def best(self) -> Rejection:
        """The one that says most: newer kernels print more."""
        return max(
            (one for _, one in self.pairs),
            key=lambda one: (bool(one.source), bool(one.log), len(one.explanation)),
        )


def alike(runs: Sequence[KernelRun]) -> list[Alike]:
    """Return the rejections of all runs, those that are the same as one."""
    found: dict[tuple[str, ...], Alike] = {}
    for run in runs:
        for one in run.rejections:
            reason = _INV.sub("scalar", _ADDRESS.sub("", one.reason))
            key = (one.binary, one.program, one.code, reason, one.source)
            found.setdefault(key, Alike()).pairs.append((run, one))
    return list(found.values())


class RejectionPrinter:
    """Prints on the console of a run of the tests."""

    def __init__(
        self,
        project: Project,
        console: SafeConsole,
        label: Callable[[KernelRun], str],
        failed_test: Callable[[KernelRun, TestResult], FailedTest],
    ) -> None:
        """`label` returns the name of a kernel, `failed_test` what commands need of a test."""
        self._project = project
        self._console = console
        self._github = GithubLog(console)
        self._label = label
        self._failed_test = failed_test

    def show(
        self, runs: Sequence[KernelRun], told: Told = NOTHING, *, are_reasons: bool = True
    ) -> None:
        """Print each rejection once, with the kernels and the tests that have it.

        Those that may be why a test failed are printed, or those that are only in an output, too.
        Those that `verify` has explained are left out.
        """
        shown = 0
        left_out = 0
        for each in alike(runs):
            each.pairs = [p for p in each.pairs if failure_on(*p) not in told.explained]
            if not each.pairs or each.is_reason != are_reasons:
                continue
            if shown == _SHOWN:
                left_out += 1
                continue
            shown += 1
            self._explain(each, told)
            if are_reasons:
                self._suggest(each, is_alone=len(runs) == 1)
        if left_out:
            self._console.print(f"\n... and {left_out} more programs that did not load")

    def _explain(self, each: Alike, told: Told) -> None:
        shown, best = self._console.print, each.best
        who = ", ".join(self._label(run) for run in each.kernels)
        names = listed(self._name(run, one) for run, one in each.pairs)
        what = f"load {best.title}" + (f": {_words(best.errno)}" if best.errno else "")
        shown()
        shown(Text.assemble((who, "bold"), "  ", (names, "bold"), f": {what}"))
        lines = best.explanation.splitlines()
        if len(lines) > _SHOWN_LINES:
            lines = ["...", *lines[-_SHOWN_LINES:]]
        if best.reason not in best.explanation:
            lines.append(best.reason)
        for line in lines:
            shown(f"    {line}")
        shown(f"  code               {best.code}")
        logs = list(dict.fromkeys(one.log for _, one in each.pairs if one.log))
        for log in logs[:_SHOWN_LOGS]:
            shown(f"  full verifier log  {log}")
        if best.note and not best.log:
            shown(f"  note               {best.note}")
        if each.is_reason and any(failure_on(*pair) not in told.annotated for pair in each.pairs):
            self._github.annotate(
                f"{who}: {names}: {what}: {best.reason}", best.source, self._project.root
            )

    def _name(self, run: KernelRun, one: Rejection) -> str:
        if test := test_of(run, one):
            name = self._failed_test(run, test).label
            return name if run.is_reason(one) else f"also in the output of {name}"
        return f"also in the log of {one.binary}"

    def _suggest(self, each: Alike, *, is_alone: bool) -> None:
        best = each.best
        run, one = next(pair for pair in each.pairs if pair[0].is_reason(pair[1]))
        failed = test_of(run, one)
        assert failed
        usual = self._project.config.verify.loader or DEFAULT_LOADER
        program = FailedProgram(
            os.path.relpath(self._project.root / best.object) if best.object else "",
            best.program,
            [run.kernel for run in each.kernels],
            best.code,
            ("--loader", best.loader) if best.loader not in ("", usual) else (),
        )
        test = self._failed_test(run, failed)
        found = next_commands.of_test(test, program, is_alone=is_alone)
        for what, words in found.items():
            self._console.print(f"  {what:<17}  {words}")


def _words(name: str) -> str:
    """Return what an error means, such as `permission denied` for EACCES."""
    numbers = {text: number for number, text in errno.errorcode.items()}
    return os.strerror(numbers[name]).lower() if name in numbers else name

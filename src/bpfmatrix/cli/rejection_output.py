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

from bpfmatrix.cli.again import NextCommands
from bpfmatrix.cli.console import SafeConsole
from bpfmatrix.cli.github import GithubLog
from bpfmatrix.config.project import Project
from bpfmatrix.results.kernel_run import KernelRun, Rejection, TestResult
from bpfmatrix.verify.plan import DEFAULT_LOADER

__all__ = ["Alike", "RejectionPrinter", "alike"]

_SHOWN = 10
_SHOWN_TESTS = 2
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
        commands: Callable[[KernelRun, TestResult], NextCommands],
    ) -> None:
        """`label` returns the name of a kernel, and `commands` what to type next about a test."""
        self._project = project
        self._console = console
        self._github = GithubLog(console)
        self._label = label
        self._commands = commands

    def show(self, runs: Sequence[KernelRun], *, are_reasons: bool = True) -> None:
        """Print each rejection once, with the kernels and the tests that have it.

        Those that may be why a test failed are printed, or those that are only in an output, too.
        """
        found = [each for each in alike(runs) if each.is_reason == are_reasons]
        for each in found[:_SHOWN]:
            self._explain(each)
            if are_reasons:
                self._suggest(each, is_everywhere=len(each.kernels) == len(runs) > 1)
        if len(found) > _SHOWN:
            self._console.print(f"\n... and {len(found) - _SHOWN} more programs that did not load")

    def _explain(self, each: Alike) -> None:
        shown, best = self._console.print, each.best
        who = ", ".join(self._label(run) for run in each.kernels)
        tests = list(dict.fromkeys(self._name(run, one) for run, one in each.pairs))
        more = len(tests) - _SHOWN_TESTS
        names = ", ".join(tests[:_SHOWN_TESTS]) + (f" and {more} more" if more > 0 else "")
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
        if each.is_reason:
            self._github.annotate(
                f"{who}: {names}: {what}: {best.reason}", best.source, self._project.root
            )

    def _name(self, run: KernelRun, one: Rejection) -> str:
        test = _test_of(run, one)
        if test:
            name = self._commands(run, test).label
            return name if run.is_reason(one) else f"also in the output of {name}"
        return f"also in the log of {one.binary}"

    def _suggest(self, each: Alike, *, is_everywhere: bool) -> None:
        shown = self._console.print
        run, one = next(pair for pair in each.pairs if pair[0].is_reason(pair[1]))
        test = _test_of(run, one)
        assert test
        commands = self._commands(run, test)
        shown(f"  run it alone       {commands.run}")
        if words := commands.debug_rejection:
            shown(f"  where it stops     {words}")
        best = each.best
        if best.object:
            usual = self._project.config.verify.loader or DEFAULT_LOADER
            loader = "" if best.loader == usual else best.loader
            kernels = [run.kernel for run in each.kernels]
            if words := commands.again.verify(kernels, self._project.root / best.object, loader):
                shown(f"  every program      {words}")
        # If each of several kernels rejects it, none of them is known to be good.
        if not is_everywhere and (words := commands.bisect):
            shown(f"  since when         {words}")


def _test_of(run: KernelRun, one: Rejection) -> TestResult | None:
    """Return the failed test that printed a rejection; None if only the executable's log has it."""
    of_binary = (test for test in run.failures if test.binary == one.binary)
    return next((test for test in of_binary if test.name == one.test), None)


def _words(name: str) -> str:
    """Return what an error means, such as `permission denied` for EACCES."""
    numbers = {text: number for number, text in errno.errorcode.items()}
    return os.strerror(numbers[name]).lower() if name in numbers else name

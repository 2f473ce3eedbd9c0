"""What the task `debug` does: run tests or load objects under gdb, with a console for either."""

from pathlib import Path

from rich.text import Text

from bpfmatrix.cli.console import STYLES, LiveConsole
from bpfmatrix.cli.progress_bar import shown
from bpfmatrix.cli.suite_output import SuiteConsole
from bpfmatrix.cli.verify_output import VerifyConsole
from bpfmatrix.config.project import Project
from bpfmatrix.debug import core_session, session
from bpfmatrix.debug.options import DebugOptions
from bpfmatrix.report.again import Again
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.verify.options import VerifyOptions

__all__ = ["debug", "open_core"]

_SHOWN_LINES = 14


def debug(
    project: Project, id: str, asked: RunOptions | VerifyOptions, options: DebugOptions
) -> int:
    """Run tests or load objects on one kernel under gdb, and return the exit status."""
    console: LiveConsole
    if isinstance(asked, RunOptions):
        console = SuiteConsole(project, [id], Again(asked.binaries))
    else:
        console = _LoadingConsole(project, [id])
    try:
        return session.debug(project, id, asked, options, console, shown)
    except KeyboardInterrupt:
        console.console.print("interrupted")
        raise


def open_core(project: Project, file: Path, id: str | None, options: DebugOptions) -> int:
    """Open a core file of a guest's memory in gdb, and return gdb's exit status."""
    console = SuiteConsole(project, [id] if id else [], Again(()))
    return core_session.open_core(project, file, id, options, console, shown)


class _LoadingConsole(VerifyConsole):
    """The console of objects that are loaded under gdb: a line for each program, and no table."""

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        assert isinstance(result, ProgramResult)
        how = ", ".join(filter(None, (result.loader, result.preset)))
        style = STYLES.get(result.outcome, "red")
        what = Text.assemble("  ", (self.mark(result.outcome), style), f" {result.program}")
        if result.outcome is Outcome.PASSED:
            self.line(what, f"{how}, {result.seconds:.2f} s")
            return
        self.line(what, f"{how}, {result.outcome}: {result.reason}", style)
        for line in result.verifier_tail.splitlines()[-_SHOWN_LINES:]:
            self.console.print(Text(f"      {line}"))
        if result.log:
            self.console.print(Text(f"      full verifier log  {result.log}"))

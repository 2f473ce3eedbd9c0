"""What the task `debug` does: run the tests under gdb, with the console of a run."""

from bpfmatrix.cli.progress_bar import shown
from bpfmatrix.cli.suite_output import SuiteConsole
from bpfmatrix.config.project import Project
from bpfmatrix.debug import session
from bpfmatrix.debug.options import DebugOptions
from bpfmatrix.report.again import Again
from bpfmatrix.suite.options import RunOptions

__all__ = ["debug"]


def debug(project: Project, id: str, tests: RunOptions, options: DebugOptions) -> int:
    """Run the tests on one kernel under gdb, and return the exit status."""
    console = SuiteConsole(project, [id], Again(tests.binaries))
    return session.debug(project, id, tests, options, console, shown)

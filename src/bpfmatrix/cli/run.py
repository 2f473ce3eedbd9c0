"""What `run`, `matrix` and the nox sessions do: run the tests, and print the results."""

import time
from collections.abc import Sequence

from bpfmatrix.cli.suite_output import SuiteConsole
from bpfmatrix.config.project import Project
from bpfmatrix.report import summary
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.session.pipeline import run_side_by_side
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWorkload

__all__ = ["run_tests"]


def run_tests(
    project: Project,
    ids: Sequence[str],
    options: RunOptions,
    jobs: int | None = None,
    raw: bool = False,
) -> list[KernelRun]:
    """Run the tests on these kernels, and print progress, results and explanations.

    `raw` prints what tests say as it is: see `SafeConsole`.
    See `run_side_by_side` for `jobs`, the order of the results, and what is raised.
    """
    started = time.monotonic()
    with SuiteConsole(project, ids, options.binaries, raw) as console:
        workload = SuiteWorkload(project, options)
        runs = run_side_by_side(project, ids, workload, console, jobs)
        if any(run.failures for run in runs):
            from bpfmatrix.rejections.explain import explained  # noqa: PLC0415 - seldom needed

            runs = explained(project, runs, workload.payloads, console)
    if len(runs) > 1:
        console.matrix(runs, time.monotonic() - started)
    summary.write(runs)
    return runs

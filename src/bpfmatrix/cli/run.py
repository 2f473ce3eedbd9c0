"""What `run`, `matrix` and the nox sessions do: run the tests, load the objects, print results.

Nobody pays for the imports of a part that does not run.
"""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bpfmatrix.cli.again import PLAIN, Again
from bpfmatrix.cli.run_choice import RunChoice
from bpfmatrix.cli.run_console import RunConsole
from bpfmatrix.config.project import Project
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.report import summary
from bpfmatrix.results import files, kernel_run, verification
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Verification
from bpfmatrix.session.pipeline import Part, run_asked
from bpfmatrix.session.workload import asked_for
from bpfmatrix.suite.options import RunOptions

if TYPE_CHECKING:
    from bpfmatrix.cli.verify_output import VerifyConsole
    from bpfmatrix.verify.workload import VerifyWorkload

__all__ = ["Results", "run_chosen"]


@dataclass(frozen=True)
class Results:
    """What came of a run: a result for each kernel, of each part that ran."""

    runs: Sequence[KernelRun] = ()
    verifications: Sequence[Verification] = ()

    @property
    def exit_status(self) -> int:
        """0 if all is well; 1 if a part failed; 2 if only files that are no eBPF objects did."""
        statuses = [
            *([kernel_run.exit_status(self.runs)] if self.runs else []),
            *([verification.exit_status(self.verifications)] if self.verifications else []),
        ]
        return 1 if 1 in statuses or not statuses else max(statuses)

    @property
    def problems(self) -> list[str]:
        """What did not pass, in a few words each, such as `5.10 verify failed`."""
        bad = [f"{one.kernel} verify {one.outcome}" for one in self.verifications]
        fine = [one.outcome in FINE for one in self.verifications]
        found = [text for text, is_fine in zip(bad, fine, strict=True) if not is_fine]
        return [
            *found,
            *(f"{r.kernel} {r.outcome}" for r in self.runs if r.outcome is not Outcome.PASSED),
        ]


def run_chosen(
    project: Project,
    ids: Sequence[str],
    choice: RunChoice,
    options: RunOptions,
    jobs: int | None = None,
    raw: bool = False,
    again: Again = PLAIN,
) -> Results:
    """Run what is chosen on these kernels, and print progress, results and explanations.

    `raw` prints what tests and kernels say as it is: see `SafeConsole`. `again` is how the run was
    started, for the commands that messages name.
    See `run_side_by_side` for `jobs`, the order of the results, and what is raised.
    """
    started = time.monotonic()
    ids = list(dict.fromkeys(ids))
    console = RunConsole(project, ids, choice, again, raw)
    try:
        with console:
            results = _run(project, ids, choice, options, jobs, console)
    except BaseException:
        console.abort()
        raise
    console.show(results.runs, results.verifications, time.monotonic() - started)
    summary.write([*results.verifications, *results.runs])
    return results


def _run(
    project: Project,
    ids: Sequence[str],
    choice: RunChoice,
    options: RunOptions,
    jobs: int | None,
    console: RunConsole,
) -> Results:
    kernels = [project.config.kernel(id) for id in ids]
    parts: dict[str, Part[Any]] = {}
    with contextlib.ExitStack() as stack:
        if console.tests:
            from bpfmatrix.suite.workload import SuiteWorkload

            tests = SuiteWorkload(project, options)
            stack.enter_context(tests.asked(kernels))
            parts["tests"] = Part(tests, console.tests)
        if console.programs:
            from bpfmatrix.verify.workload import unprepared

            # From here on, as the objects may not build.
            stack.enter_context(asked_for(files.verification_folder(project), kernels, unprepared))
            workload = _verification(project, ids, options, console.programs)
            parts["verify"] = Part(workload, console.programs)
        try:
            found = run_asked(project, ids, list(parts.values()), jobs)
        except NoTestsError as error:
            if choice.is_asked or not console.programs:
                raise
            console.programs.note(f"no test runs: {error.what}")
            del parts["tests"]
            found = run_asked(project, ids, list(parts.values()), jobs)
    results = dict(zip(parts, found, strict=True))
    runs, verifications = results.get("tests", ()), results.get("verify", ())
    if console.tests and any(run.failures for run in runs):
        from bpfmatrix.rejections.explain import explained

        runs = explained(project, runs, tests.payloads, console.tests, verifications)
    return Results(runs, verifications)


def _verification(
    project: Project, ids: Sequence[str], options: RunOptions, observer: "VerifyConsole"
) -> "VerifyWorkload":
    from bpfmatrix.verify.options import VerifyOptions
    from bpfmatrix.verify.workload import VerifyWorkload

    archs = {project.config.kernel(id).arch for id in ids}
    asked = VerifyOptions(cold=options.cold, cached=options.cached)
    workload = VerifyWorkload.make(project, asked, observer, archs=archs)
    observer.expect(workload.programs)
    return workload

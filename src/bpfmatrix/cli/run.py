"""What `run`, `matrix`, `watch` and the nox sessions do: run the tests, load the objects, print.

Nobody pays for the imports of a part that does not run.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from bpfmatrix.cli.run_choice import RunChoice
from bpfmatrix.cli.run_console import RunConsole
from bpfmatrix.config.models import Included, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.host.text import counted
from bpfmatrix.payload.declared import NoObjectsError, NoTestsError
from bpfmatrix.report import summary
from bpfmatrix.report.again import PLAIN, Again
from bpfmatrix.results import files, kernel_run, verification
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import RefusedObject, Verification
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import Part, run_asked
from bpfmatrix.session.workload import asked_for
from bpfmatrix.suite.options import RunOptions

if TYPE_CHECKING:
    from bpfmatrix.verify.workload import VerifyWorkload

__all__ = ["Results", "WatchedParts", "run_chosen"]


@dataclass(frozen=True)
class Results:
    """What came of a run: a result for each kernel, of each part that ran."""

    runs: Sequence[KernelRun] = ()
    verifications: Sequence[Verification] = ()
    forgives_refused: bool = False
    """Whether files that are no eBPF objects are none of the user's words."""

    @classmethod
    def of(cls, results: "dict[Included, list[Any]]", *, forgives_refused: bool = False) -> Self:
        """Return the results of the parts that ran."""
        return cls(results.get("tests", ()), results.get("verify", ()), forgives_refused)

    @property
    def exit_status(self) -> int:
        """0 if all is well; 1 if a part failed; 2 if only files that are no eBPF objects did."""
        statuses = []
        if self.verifications:
            # That every program is skipped is fine beside tests, which are what is checked then.
            fine = bool(self.runs) and not self._problems_of_programs
            status = (
                2 * bool(self._refused) if fine else verification.exit_status(self.verifications)
            )
            statuses.append(0 if status == 2 and self.forgives_refused else status)
        if self.runs:
            statuses.append(kernel_run.exit_status(self.runs))
        return 1 if 1 in statuses or not statuses else max(statuses)

    @property
    def problems(self) -> list[str]:
        """What did not pass, in a few words each, such as `5.10 verify failed`."""
        tests = " tests" if self.verifications else ""
        refused = 0 if self.forgives_refused else len(self._refused)
        return [
            *self._problems_of_programs,
            *([f"{counted(refused, 'file')} can't be loaded"] if refused else []),
            *(
                f"{one.kernel}{tests} {one.outcome}"
                for one in self.runs
                if one.outcome is not Outcome.PASSED
            ),
        ]

    @property
    def _problems_of_programs(self) -> list[str]:
        outcomes = {one.outcome for one in self.verifications}
        is_nothing_checked = outcomes == {Outcome.SKIPPED} and not self.runs
        return [
            f"{one.kernel} verify {one.outcome}"
            for one in self.verifications
            if one.outcome not in FINE or is_nothing_checked
        ]

    @property
    def _refused(self) -> Sequence[RefusedObject]:
        return self.verifications[0].refused if self.verifications else ()


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
    interrupted: _InterruptedLateError | None = None
    try:
        with console:
            found = _run(_Run(project, ids, choice, options, console), jobs)
    except _InterruptedLateError as error:
        found, interrupted = error.results, error
    except BaseException as error:
        console.abort(interrupted=isinstance(error, KeyboardInterrupt))
        raise
    # Nobody named the files that a Makefile builds one by one.
    forgives = not choice.is_asked and not project.config.verify.objects
    results = Results.of(found, forgives_refused=forgives)
    console.show(results.runs, results.verifications, time.monotonic() - started)
    summary.write([*results.verifications, *results.runs])
    if interrupted:
        raise interrupted
    return results


class _InterruptedLateError(KeyboardInterrupt):
    """Ctrl-C when each kernel had its results, which are in `results`."""

    def __init__(self, results: "dict[Included, list[Any]]") -> None:
        super().__init__()
        self.results = results


@dataclass(frozen=True)
class _Run:
    """The words of one run."""

    project: Project
    ids: Sequence[str]
    choice: RunChoice
    options: RunOptions
    console: RunConsole

    @property
    def kernels(self) -> list[KernelConfig]:
        return [self.project.config.kernel(id) for id in self.ids]

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Set earlier results of all parts aside, before anything can fail: see `asked_for`."""
        with contextlib.ExitStack() as stack:
            for part in self.choice.parts:
                folder, unprepared = _results_of(part, self.project)
                stack.enter_context(asked_for(folder, self.kernels, unprepared))
            yield

    def parts(self, *, quiet: bool = False) -> "dict[Included, Part[Any]]":
        """Return the workloads of the parts, with their observers.

        UsageError if an object can't be loaded, NoObjectsError if there is none although `verify`
        is asked for, or nothing else is chosen.
        """
        found: dict[Included, Part[Any]] = {}
        if self.console.tests:
            from bpfmatrix.suite.workload import SuiteWorkload

            found["tests"] = Part(SuiteWorkload(self.project, self.options), self.console.tests)
        if self.console.programs:
            try:
                found["verify"] = Part(self._verification(quiet=quiet), self.console.programs)
            except NoObjectsError:
                if self.choice.is_asked or not found:
                    raise
        return found

    def leave_out_tests(
        self, parts: "dict[Included, Part[Any]]", error: NoTestsError, *, quiet: bool = False
    ) -> None:
        """Take the tests, of which there are none, out of the parts.

        The error is raised if tests are asked for, or nothing else runs.
        """
        if self.choice.is_asked or len(parts) == 1:
            raise error
        if not quiet:
            parts["verify"].observer.note(f"no test runs: {error.what}")
        del parts["tests"]

    def _verification(self, *, quiet: bool) -> "VerifyWorkload":
        from bpfmatrix.verify.options import VerifyOptions
        from bpfmatrix.verify.workload import VerifyWorkload

        observer = self.console.programs
        assert observer
        archs = {kernel.arch for kernel in self.kernels}
        asked = VerifyOptions(cold=self.options.cold, cached=self.options.cached)
        told = Observer() if quiet else observer
        workload = VerifyWorkload.make(self.project, asked, told, archs=archs)
        observer.expect(workload.programs)
        return workload


def _run(run: _Run, jobs: int | None) -> "dict[Included, list[Any]]":
    """Run all parts side by side, and return the results of each."""
    with run.asked():
        parts = run.parts()
        try:
            found = run_asked(run.project, run.ids, list(parts.values()), jobs)
        except NoTestsError as error:
            run.leave_out_tests(parts, error)
            found = run_asked(run.project, run.ids, list(parts.values()), jobs)
        results = dict(zip(parts, found, strict=True))
        return _with_rejections(run.project, parts, results, jobs=jobs)


def _with_rejections(
    project: Project,
    parts: "dict[Included, Part[Any]]",
    results: "dict[Included, list[Any]]",
    *,
    may_boot: bool = True,
    jobs: int | None = None,
) -> "dict[Included, list[Any]]":
    """Return the results with the programs that the kernels rejected in tests that failed.

    See `explained` for `may_boot` and `jobs`. _InterruptedLateError on Ctrl-C.
    """
    if not any(run.failures for run in results.get("tests", ())):
        return results
    from bpfmatrix.rejections.explain import ExplanationInterrupted, explained
    from bpfmatrix.suite.workload import SuiteWorkload

    workload, observer = parts["tests"].workload, parts["tests"].observer
    assert isinstance(workload, SuiteWorkload)
    verifications = results.get("verify", ())
    try:
        runs = explained(
            project,
            results["tests"],
            workload.payloads,
            observer,
            verifications,
            may_boot=may_boot,
            jobs=jobs,
        )
    except ExplanationInterrupted as error:
        raise _InterruptedLateError({**results, "tests": error.runs}) from error
    return {**results, "tests": runs}


def _results_of(part: Included, project: Project) -> Any:
    """Return the folder of a part's results, and the function that makes one without a run."""
    if part == "verify":
        from bpfmatrix.verify.workload import unprepared

        return files.verification_folder(project), unprepared
    from bpfmatrix.suite.workload import unprepared_run

    return project.results, unprepared_run


class WatchedParts:
    """One run of `watch`, on one kernel: see `WatchedRun`."""

    def __init__(self, project: Project, id: str, choice: RunChoice, options: RunOptions) -> None:
        self._console = RunConsole(project, [id], choice, Again(options.binaries))
        self._run = _Run(project, [id], choice, options, self._console)
        self._parts: dict[Included, Part[Any]] = {}
        self._done: set[Included] = set()
        self._quiet = False

    @property
    def observer(self) -> Observer:
        """See WatchedRun."""
        return self._console.first

    def __enter__(self) -> Self:
        """See WatchedRun."""
        self._console.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """See WatchedRun."""
        self._console.__exit__()

    def parts(self, *, quiet: bool) -> list[Part[Any]]:
        """See WatchedRun."""
        self._quiet = quiet
        self._parts = self._run.parts(quiet=quiet)
        return list(self._parts.values())

    def without_tests(self, error: NoTestsError) -> list[Part[Any]]:
        """See WatchedRun."""
        self._run.leave_out_tests(self._parts, error, quiet=self._quiet)
        return list(self._parts.values())

    def done(self, part: Part[Any]) -> None:
        """See WatchedRun."""
        self._done.update(name for name, known in self._parts.items() if known is part)

    def failed(self, reason: str) -> None:
        """See WatchedRun."""
        for part in self._run.choice.parts:
            if part in self._done:
                continue
            folder, unprepared = _results_of(part, self._run.project)
            for kernel in self._run.kernels:
                with contextlib.suppress(OSError):
                    files.write(unprepared(kernel, reason), folder / f"{kernel.id}.json")

    def show(self, results: Sequence[Any]) -> None:
        """See WatchedRun."""
        self._console.stop()
        found = {part: [one] for part, one in zip(self._parts, results, strict=True)}
        # Another machine would need an event loop of its own, and this one still runs.
        found = _with_rejections(self._run.project, self._parts, found, may_boot=False)
        shown = Results.of(found)
        self._console.show(shown.runs, shown.verifications)

"""What the task `sweep` does: find what is new, run it, and print what differs."""

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.cli.console import say_json
from bpfmatrix.cli.kernel_choice import kernel_ids
from bpfmatrix.cli.sweep_output import SweepConsole
from bpfmatrix.config.project import Project
from bpfmatrix.errors import KernelUnavailableError, UsageError
from bpfmatrix.host.front_end import command
from bpfmatrix.host.text import counted
from bpfmatrix.kernels import releases
from bpfmatrix.report import summary
from bpfmatrix.session.pipeline import run_side_by_side
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.sweep import kernels, payloads
from bpfmatrix.sweep.differences import Compared, Effect, compared
from bpfmatrix.sweep.kernels import Offered, Resolved
from bpfmatrix.sweep.payloads import Workloads
from bpfmatrix.sweep.plan import Results, Target, is_conclusive, to_run
from bpfmatrix.sweep.report import SweepReport, gone, moved, swept
from bpfmatrix.sweep.state import Part, Result, SweepState

__all__ = ["SweepOptions", "sweep"]


@dataclass(frozen=True)
class SweepOptions:
    """What a user asks of a sweep."""

    patterns: str | None = None
    """Ids and patterns of the kernels to sweep; None for all."""
    arch: str | None = None
    everything: bool = False
    """Whether to run kernels for which nothing is new, too."""
    state: Path | None = None
    """The folder of the state; None for that of the project."""
    jobs: int | None = None
    as_json: bool = False
    raw: bool = False
    run: RunOptions = field(default_factory=RunOptions)

    @property
    def is_whole(self) -> bool:
        """Whether all kernels are swept."""
        return self.patterns is None and self.arch is None


def sweep(project: Project, options: SweepOptions) -> int:
    """Sweep, print the report, and return its exit status.

    BpfmatrixError if no kernel is available, or if the payload can't be built. On
    KeyboardInterrupt, the results of the kernels that are done are kept for the next sweep.
    """
    # The newest releases are swept, and not those that are pinned.
    project = dataclasses.replace(project, config=project.config.unpinned())
    state = SweepState(options.state or project.state / "sweep")
    console = SweepConsole(project, stderr=options.as_json, raw=options.raw)
    with state.locked():
        with console:
            offered, found = _kernels(project, options, console)
            project = dataclasses.replace(project, config=offered.available.config)
            arches = dict.fromkeys(image.arch for image in found.images.values())
            parts = payloads.workloads(project, arches, options.run, console)
            targets = payloads.targets(project, found.images, parts, console)
        report = _prospect(state, targets, options, offered, found)
        notes = payloads.untested(parts, arches)
        report = dataclasses.replace(report, notes=(*report.notes, *notes))
        console.begin(report)
        results = _Run(project, options, state, parts, targets, console).results()
        report = dataclasses.replace(report, compared=results)
        console.report(report, project.config, _offered_releases(project, report, offered))
        if options.as_json:
            say_json(report.as_json())
        waiting = found.failures if options.is_whole else None
        state.settle(report.conclusive, report.gone, waiting)
    return report.exit_status


def _kernels(
    project: Project, options: SweepOptions, console: SweepConsole
) -> tuple[Offered, Resolved]:
    """Find what is offered, and fetch the newest image of each kernel that is swept.

    KernelUnavailableError if there is none.
    """
    offered = kernels.offered(project.config, project.cache, console.progress("", "sources"))
    config = offered.available.config
    ids = kernels.chosen(project.config, offered.available, options.arch)
    if options.patterns is not None:
        ids = kernel_ids(config, options.patterns, ids)
        ids = [id for id in ids if options.arch in (None, config.kernel(id).arch)]
    if not ids:
        raise UsageError(
            "there is no kernel to sweep", "Name others with --kernels, or another --arch."
        )
    found = kernels.resolved(config, ids, project.cache, lambda id: console.progress(id, "kernel"))
    for id in ("", *ids):
        console.done(id)
    if not found.images:
        first = next(iter(found.failures))
        raise KernelUnavailableError(
            f"no kernel is available; {first}: {found.failures[first]}",
            f"`{command('doctor')}` says what is missing.",
        )
    return offered, found


def _offered_releases(project: Project, report: SweepReport, offered: Offered) -> Collection[str]:
    """Return the ids of all available releases, if a bisection between two is suggested."""
    if not any(moved(one) and one.having(Effect.REGRESSION) for one in report.compared):
        return offered.available.releases
    return releases.offered(project.config, project.cache).config.kernels


def _prospect(
    state: SweepState,
    targets: Sequence[Target],
    options: SweepOptions,
    offered: Offered,
    found: Resolved,
) -> SweepReport:
    """Return the report as far as it is known before anything runs."""
    last = {part: state.last(part) for part in Part}
    config = offered.available.config
    notes = [f"a source could not be asked: {why}" for why in offered.failures]
    if taken := sum(
        target.holds(part, state.finished(part).get(target.id))
        for target in targets
        for part in target.fingerprints
    ):
        notes.append(f"{counted(taken, 'result')} of an interrupted sweep taken over")
    wanted = options.arch or config.defaults.arch
    notes += [one.why for one in offered.available.left_out if one.arch == wanted]
    is_whole = options.is_whole and not offered.failures
    ids = [*found.images, *found.failures]
    return SweepReport(
        kernels=swept(targets, last),
        unavailable={id: _with_last(id, why, last) for id, why in found.failures.items()},
        notes=tuple(notes),
        gone=gone(last, ids, offered.available) if is_whole else {},
        compared=(),
        swept_at=state.swept_at,
    )


def _with_last(id: str, why: str, last: Results) -> str:
    """Return why a kernel is not available, with the release of its last result."""
    known = [last[part][id].version for part in Part if id in last[part]]
    return f"{why.rstrip('.')}; the result of {known[0]} stays" if known else why


@dataclass(frozen=True)
class _Run:
    """The part of a sweep that boots kernels."""

    project: Project
    options: SweepOptions
    state: SweepState
    parts: Workloads
    targets: Sequence[Target]
    console: SweepConsole

    def results(self) -> tuple[Compared, ...]:
        """Run what is new, and return all results that no sweep has reported, each compared."""
        last = {part: self.state.last(part) for part in Part}
        finished = {part: self.state.finished(part) for part in Part}
        found: list[Compared] = []
        ran: list[Result] = []
        for part in self.parts:
            ids = to_run(self.targets, part, last, finished, self.options.everything)
            done = [
                finished[part][target.id]
                for target in self.targets
                if target.holds(part, finished[part].get(target.id))
            ]
            now = self._ran(part, ids) if ids else []
            ran += now
            found += [
                compared(part, one, last[part], self._warnings_fail(one.kernel))
                for one in (*done, *now)
            ]
        summary.write(ran)
        return tuple(found)

    def _warnings_fail(self, id: str) -> bool:
        return self.project.config.kernel(id).kernel_warnings == "fail"

    def _ran(self, part: Part, ids: Sequence[str]) -> Sequence[Result]:
        prints = {
            target.id: target.fingerprints[part]
            for target in self.targets
            if part in target.fingerprints
        }

        def keep(result: Result) -> None:
            if is_conclusive(result):
                self.state.keep(part, result, prints[result.kernel])

        self.console.keep = keep
        try:
            with self.console:
                return run_side_by_side(
                    self.project, ids, self.parts[part].workload, self.console, self.options.jobs
                )
        except KeyboardInterrupt:
            self.console.note("what is finished is kept; the next sweep goes on from there")
            raise

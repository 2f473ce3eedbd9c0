"""One kernel's verification, from a prepared machine to a `Verification` that is written."""

import asyncio
import dataclasses
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Protocol

from bpfmatrix import __version__
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.results import verification_files
from bpfmatrix.results.expectations import Expected
from bpfmatrix.results.model import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from bpfmatrix.session.guest import Stay, cleared, failure_of, now
from bpfmatrix.session.observer import Listener
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.verify.collector import Collector, Judge
from bpfmatrix.verify.plan import Group, Plan, Request
from bpfmatrix.verify.verifierlog import Line
from bpfmatrix.vm.protocol import Exited, Job, Output, Started, TestCommand

__all__ = ["Finished", "VerifyListener", "execute", "failed_to_prepare", "verdict"]

_FINE = (Outcome.PASSED, Outcome.SKIPPED)
# What becomes of the program that was being loaded when its machine ended.
_FATES = {
    Outcome.PANIC: (Outcome.PANIC, Code.KERNEL_DIED),
    Outcome.LOST: (Outcome.LOST, Code.KERNEL_DIED),
    Outcome.TIMEOUT: (Outcome.TIMEOUT, Code.TIMEOUT),
}


class VerifyListener(Listener, Protocol):
    """Whoever wants to know of a verification while it goes on."""

    def program(self, kernel: str, result: ProgramResult) -> None:
        """A program has its result."""

    def verified(self, verification: Verification) -> None:
        """A kernel's verification ended, and is written."""


@dataclasses.dataclass(frozen=True)
class Finished:
    """A verification, and what is only known right after it."""

    verification: Verification
    lines: dict[tuple[str, str], list[Line]] = dataclasses.field(default_factory=dict)
    """The source of programs, by object and program, as their BTF tells."""
    left_out: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    """Why a program has no log that should have one."""


def failed_to_prepare(
    folder: Path, kernel: KernelConfig, error: BpfmatrixError, listener: VerifyListener
) -> Finished:
    """Return, and write, the verification of a kernel that could not even be booted."""
    cleared(folder, kernel.id)
    verification = Verification(
        *(kernel.id, Outcome.ERROR, str(error)),
        arch=kernel.arch,
        started_at=now(),
        tool_version=__version__,
    )
    verification_files.write(verification, folder / f"{kernel.id}.json")
    listener.verified(verification)
    return Finished(verification)


async def execute(
    project: Project,
    prepared: Prepared,
    plan: Plan,
    loader: Path,
    request: Request,
    listener: VerifyListener,
    folder: Path,
) -> Finished:
    """Boot a kernel, load everything there, write the verification and return it.

    Cancelled, it writes what it has as `interrupted` before it lets go.
    """
    run = _Run(project, prepared, plan, loader, request, listener, folder)
    failure = None
    try:
        failure = await failure_of(run.go(), prepared.kernel.timeout.run)
    except asyncio.CancelledError:
        run.finish((Outcome.INTERRUPTED, "interrupted"))
        raise
    return run.finish(failure)


class _Run:
    """What is known of a verification while it goes on."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        plan: Plan,
        loader: Path,
        request: Request,
        listener: VerifyListener,
        folder: Path,
    ) -> None:
        self._project = project
        self._prepared = prepared
        self._listener = listener
        self._subjects = plan.subjects
        self._oops = False
        kernel, version = prepared.kernel, prepared.image.version or prepared.image.release
        logs = cleared(folder, kernel.id)
        self._result = folder / f"{kernel.id}.json"
        self._stay = Stay(project, prepared, logs / "console.log", listener, cold=request.cold)
        judge = Judge(
            request.max_insns or project.config.verify.max_insns,
            Expected.of(kernel.expect, version),
        )
        report = partial(listener.program, kernel.id)
        self._collector = Collector(plan.subjects, logs, project.relative, judge, report)
        self._too_old = plan.too_old(version)
        self._commands: list[tuple[Group, TestCommand]] = [
            (group, TestCommand(number, argv, kernel.timeout.run))
            for number, (group, argv) in enumerate(
                plan.commands(loader, self._too_old, kernel.qemu.cpus), start=1
            )
        ]

    async def go(self) -> None:
        """Boot, hand over the job, and take in the events until the guest is done."""
        for place, reason in self._too_old.items():
            self._collector.skip(self._subjects[place], reason)
        if not self._commands:
            return  # no need to boot for nothing
        id, prepared = self._prepared.kernel.id, self._prepared
        job = Job(tuple(c for _, c in self._commands), prepared.payload_id, prepared.env)
        groups = {command.id: group for group, command in self._commands}
        async with self._stay.begin() as guest:
            async for event in guest.run(job):
                match event:
                    case Started():
                        self._listener.doing(id, "load", f"{len(groups[event.id].places)} objects")
                    case Output():
                        self._collector.feed(event.data)
                    case Exited():
                        self._close(groups[event.id], event)

    def _close(self, group: Group, exited: Exited) -> None:
        """Take note of how a loader ended."""
        self._collector.close()
        if exited.oops:
            self._oops = True
        subjects = [self._subjects[place] for place in group.places]
        said = self._collector.said.splitlines()
        reason, outcome, code = "", Outcome.ERROR, Code.LOADER_CRASHED
        if exited.limit:
            outcome, reason = Outcome.TIMEOUT, "the loader ran into timeout.run"
        elif exited.status != 0:
            reason = f"the loader ended: {exited.reason}"
        elif self._collector.ended == 0:
            reason = "the loader ended without a word"
        else:
            self._collector.ended = 0
            reason = "the loader did not say what came of it"
        if said and exited.status != 0:
            reason = f"{reason}: {said[0]}"
        self._collector.abandon(outcome, code, reason, subjects)

    def finish(self, failure: tuple[Outcome, str] | None) -> Finished:
        """Write the verification and return it."""
        collector, console = self._collector, self._stay.console
        collector.close()
        if self._oops:
            collector.oops()
        if failure is not None:
            outcome, reason = failure
            collector.abandon(*_FATES.get(outcome, (Outcome.ERROR, Code.NOT_RUN)), reason)
        programs = collector.programs
        outcome, reason = failure or verdict(programs)
        if self._oops and outcome in _FINE:
            outcome, reason = Outcome.FAILED, "the kernel had an oops while programs were loaded"
        verification = Verification(
            *(self._prepared.kernel.id, outcome, reason),
            **self._stay.facts(),
            programs=programs,
            maps=tuple(collector.maps),
            console=self._project.relative(console) if console.exists() else "",
        )
        verification_files.write(verification, self._result)
        self._listener.verified(verification)
        return Finished(verification, collector.lines, collector.left_out)


def verdict(programs: Iterable[ProgramResult]) -> tuple[Outcome, str]:
    """Return the outcome of a verification whose machine did its job, and why it did not pass."""
    programs = list(programs)
    bad = [one for one in programs if one.outcome not in _FINE and not one.expected]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return Outcome.FAILED, f"{bad[0].program}{more}: {bad[0].reason}"
    if not programs:
        return Outcome.ERROR, "no program was loaded"
    if all(one.outcome is Outcome.SKIPPED and not one.expected for one in programs):
        return Outcome.SKIPPED, f"every program was skipped, the first one: {programs[0].reason}"
    return Outcome.PASSED, ""

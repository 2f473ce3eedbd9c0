"""Loading every program of eBPF objects: the workload of `verify`, and of a bisection by program.

The loader in the guest prints events; a `Collector` turns them into the `Verification` of the
kernel, which is kept in `.bpfmatrix/verify/<kernel>.json`.
"""

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.host.text import counted
from bpfmatrix.payload import ebpf, shipped
from bpfmatrix.payload.model import Payload
from bpfmatrix.results import files
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, ProgramKey, Verification, verdict
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession, unprepared_facts
from bpfmatrix.session.kernel_warnings import WarningCollector
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.workload import MatrixWorkload, Work
from bpfmatrix.verify.collector import Collector
from bpfmatrix.verify.judge import Judge
from bpfmatrix.verify.loader_choice import remind_of_choice
from bpfmatrix.verify.modules import UnloadedModules
from bpfmatrix.verify.objects import ObjectFile, find
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.plan import LoadPlan, ObjectGroup
from bpfmatrix.verify.reasons.facts import KernelFacts
from bpfmatrix.verify.selection import may_load
from bpfmatrix.verify.verifierlog import LineInfo
from bpfmatrix.vm.protocol import Exited, Output, Started, TestCommand

__all__ = ["Details", "VerifyWork", "VerifyWorkload", "unprepared"]

# The outcome and the code of a program that was being loaded when its machine ended.
_ENDED = {
    Outcome.PANIC: (Outcome.PANIC, Code.KERNEL_DIED),
    Outcome.LOST: (Outcome.LOST, Code.KERNEL_DIED),
    Outcome.TIMEOUT: (Outcome.TIMEOUT, Code.TIMEOUT),
    # Nothing is known of it, as if it had not been tried.
    Outcome.INTERRUPTED: (Outcome.INTERRUPTED, Code.NOT_RUN),
}


@dataclass(frozen=True)
class Details:
    """What is known right after a verification, but not kept in its file."""

    lines: dict[ProgramKey, list[LineInfo]] = field(default_factory=dict)
    """The source lines in the BTF of programs."""
    left_out: dict[ProgramKey, str] = field(default_factory=dict)
    """Why a program that should have a log has none."""


class VerifyWorkload(MatrixWorkload[Verification]):
    """The objects that are to be loaded, and how."""

    options: VerifyOptions

    def __init__(
        self, project: Project, plan: LoadPlan, options: VerifyOptions, folder: Path
    ) -> None:
        super().__init__(options, folder)
        self._project = project
        self._plan = plan
        self.details: dict[str, Details] = {}
        """By the kernel's id, once its verification is finished."""

    @property
    def programs(self) -> int:
        """How many programs are to be loaded on each kernel."""
        return sum(len(object.programs) for object in self._plan.by_place.values())

    @classmethod
    def make(
        cls,
        project: Project,
        options: VerifyOptions,
        observer: Observer,
        folder: Path | None = None,
    ) -> "VerifyWorkload":
        """Build and read the objects; UsageError if none of them can be loaded on any kernel.

        Verifications and logs are written to `folder` (default: `.bpfmatrix/verify`).
        """
        plan = LoadPlan.make(project, _objects(project, options, observer), options)
        counts = plan.description
        refused = f"{counted(len(plan.refused), 'file')} refused" if plan.refused else ""
        observer.step("", "verify", counts, refused)
        if not options.loaders:
            remind_of_choice(project, observer)
        return cls(project, plan, options, folder or files.verification_folder(project))

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See Workload."""
        progress = observer.progress("", "build")
        loaders = {
            name: shipped.loader(self._project, name, arch, progress) for name in self._plan.loaders
        }
        return self._plan.payload(shipped.supervisor(self._project, arch, progress), loaders)

    def work(self, prepared: Prepared, observer: Observer) -> "VerifyWork":
        """See Workload."""
        return VerifyWork(
            self._project,
            prepared,
            self._plan,
            self.options,
            observer,
            self.folder / prepared.kernel.id,
            self.details,
        )

    def unprepared(self, kernel: KernelConfig, reason: str) -> Verification:
        """See MatrixWorkload."""
        self.details[kernel.id] = Details()
        return unprepared(kernel, reason)


def unprepared(kernel: KernelConfig, reason: str) -> Verification:
    """Return the result of a kernel that could not be prepared, or objects that could not be."""
    return Verification(kernel.id, Outcome.ERROR, reason, **unprepared_facts(kernel))


def _objects(project: Project, options: VerifyOptions, observer: Observer) -> list[ObjectFile]:
    built: tuple[Path, ...] = ()
    folder = project.config.payload.ebpf
    if folder is not None and (
        not options.objects or _names_one_of(project.root / folder, options)
    ):
        built = ebpf.objects(project, observer.progress("", "build")).files
    found = find(project, options.objects, built, observer.note)
    chosen = [one for one in found if may_load(options.names, one.name)]
    if not chosen:
        raise UsageError("--filter leaves no object to load", "See docs/verify.md.")
    return chosen


def _names_one_of(folder: Path, options: VerifyOptions) -> bool:
    """Whether `options` name an object that the project's own Makefile builds."""
    paths = [Path(os.path.normpath(Path.cwd() / pattern)) for pattern in options.objects]
    return any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in paths)


class VerifyWork(Work[Verification]):
    """One kernel's verification."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        plan: LoadPlan,
        options: VerifyOptions,
        observer: Observer,
        folder: Path,
        details: dict[str, Details],
    ) -> None:
        kernel, version = prepared.kernel, prepared.image.version or prepared.image.release
        super().__init__(folder)
        self.limit_seconds = kernel.timeout.run
        self._project = project
        self._prepared = prepared
        self._plan = plan
        self._observer = observer
        self._details = details
        self._failure: tuple[Outcome, str] | None = None
        self._oops = False
        self._warnings = WarningCollector(kernel, version)
        judge = Judge(
            options.max_insns or project.config.verify.max_insns,
            Expectations.of(kernel.expect, version),
        )
        report = partial(observer.result, kernel.id)
        facts = KernelFacts(module_of=UnloadedModules(prepared.image, kernel.modules).having)
        self._collector = Collector(plan.by_place, folder, project.relative, judge, report, facts)
        self._too_old = plan.too_old(version)
        supervisor = prepared.payload.tests[0].path
        accelerator = prepared.accelerator.name
        commands = plan.commands(supervisor, self._too_old, kernel.qemu.cpus, accelerator)
        self._commands: list[tuple[ObjectGroup, TestCommand]] = [
            (group, TestCommand(number, argv, kernel.timeout.run))
            for number, (group, argv) in enumerate(commands, start=1)
        ]
        self.needs_guest = bool(self._commands)

    async def attend(self, entered: EnteredGuest) -> None:
        """See Work."""
        self._skip_too_old()
        id = self._prepared.kernel.id
        groups = {command.id: group for group, command in self._commands}
        job = self._prepared.job([command for _, command in self._commands])
        console = entered.machine.console
        console.take()  # what the kernel printed while it booted
        try:
            async for event in entered.machine.run(job):
                self._warnings.feed(console.take(), self._collector.loading)
                match event:
                    case Started():
                        text = counted(len(groups[event.id].places), "object")
                        self._observer.doing(id, "load", text)
                    case Output():
                        self._collector.feed(event.data)
                    case Exited():
                        self._warnings.see_taint(event.warned, "")
                        self._close_loader(groups[event.id], event)
        finally:
            self._warnings.feed(console.take(), self._collector.loading)

    def _skip_too_old(self) -> None:
        while self._too_old:
            place, reason = self._too_old.popitem()
            self._collector.skip(place, reason)

    def _close_loader(self, group: ObjectGroup, exited: Exited) -> None:
        """Take the end of a loader: programs of its group without a result get one."""
        self._collector.close()
        if exited.oops:
            self._oops = True
        messages = self._collector.messages.splitlines()
        outcome = Outcome.TIMEOUT if exited.limit else Outcome.ERROR
        if exited.limit:
            reason = "the loader ran into timeout.run"
        elif exited.status != 0:
            reason = f"the loader ended: {exited.reason}"
        elif self._collector.ended == 0:
            reason = "the loader ended early, and said nothing"
        else:
            self._collector.ended = 0
            reason = "the loader reported no result for this program"
        if messages and exited.status != 0:
            reason = f"{reason}: {messages[0]}"
        self._collector.abandon(outcome, Code.LOADER_CRASHED, reason, group.places)

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """See Work."""
        self._failure = (outcome, reason)

    def result(self, session: GuestSession) -> Verification:
        """See Work."""
        self._skip_too_old()
        collector, console, failure = self._collector, session.console, self._failure
        collector.close()
        if self._oops:
            collector.oops()
        if failure is not None:
            outcome, reason = failure
            collector.abandon(*_ENDED.get(outcome, (Outcome.ERROR, Code.NOT_RUN)), reason)
        outcome, reason = failure or verdict(collector.programs)
        if outcome in FINE and (warned := self._warnings.failure()):
            outcome, reason = Outcome.FAILED, warned
        if self._oops and outcome in FINE:
            outcome, reason = Outcome.FAILED, "the kernel had an oops while programs were loaded"
        verification = Verification(
            self._prepared.kernel.id,
            outcome,
            reason,
            **session.facts(),
            programs=collector.programs,
            maps=tuple(collector.maps),
            refused=self._plan.refused,
            warnings=self._warnings.close(),
            console=self._project.relative(console) if console.exists() else "",
        )
        self._details[verification.kernel] = Details(collector.lines, collector.left_out)
        return verification

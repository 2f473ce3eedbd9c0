"""Loading every program of eBPF objects: the workload of `verify`, and of a bisection by program.

The loader in the guest prints events; a `Collector` turns them into the `Verification` of the
kernel, which is kept in `.bpfmatrix/verify/<kernel>.json`.
"""

import dataclasses
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.documentation import page
from bpfmatrix.host.text import counted
from bpfmatrix.payload import ebpf, shipped
from bpfmatrix.payload.model import Payload
from bpfmatrix.results import cache, files
from bpfmatrix.results.expectations import Expectations
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Code, ProgramKey, Verification, verdict
from bpfmatrix.session.fingerprint import fingerprint_of
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
from bpfmatrix.verify.share import Share, Shares, guests_for, workers_for
from bpfmatrix.verify.verifierlog import LineInfo
from bpfmatrix.vm.protocol import UNLIMITED_MEMLOCK, TestCommand

__all__ = ["Details", "VerifyWork", "VerifyWorkload", "unprepared"]


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
        self._sessions = 1
        self.details: dict[str, Details] = {}
        """By the kernel's id, once its verification is finished."""

    def share_host(self, sessions: int) -> None:
        """See MatrixWorkload."""
        self._sessions = sessions

    @property
    def programs(self) -> int:
        """How many programs are to be loaded on each kernel."""
        return sum(len(object.programs) for object in self._plan.by_place.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the programs that are to be loaded, each once."""
        found = (name for object in self._plan.by_place.values() for name in object.programs)
        return tuple(dict.fromkeys(found))

    @property
    def files(self) -> list[tuple[Path, tuple[str, ...]]]:
        """The object files, with the names of those of their programs that are to be loaded."""
        plan = self._plan
        return [(plan.files[place], one.programs) for place, one in plan.by_place.items()]

    @classmethod
    def make(
        cls,
        project: Project,
        options: VerifyOptions,
        observer: Observer,
        folder: Path | None = None,
        archs: Collection[str] = (),
    ) -> "VerifyWorkload":
        """Build and read the objects; UsageError if none of them can be loaded on any kernel.

        `archs` are the architectures of the kernels; an image may have objects for each.
        Verifications and logs are written to `folder` (default: `.bpfmatrix/verify`).
        """
        plan = LoadPlan.make(project, _objects(project, options, observer, archs), options)
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
        big_endian = ARCHITECTURES[arch].big_endian
        folder = self._project.config.payload.ebpf
        if (
            big_endian
            and folder is not None
            and self._plan.has_files_of(self._project.root / folder)
        ):
            ebpf.objects(self._project, progress, big_endian=True)
        supervisor = shipped.supervisor(self._project, arch, progress)
        return self._plan.payload(supervisor, loaders, big_endian)

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
            self._sessions,
        )

    def work_alone(self, prepared: Prepared, observer: Observer, folder: Path) -> "VerifyWork":
        """Return the work for one guest in which one program is loaded after another.

        Its logs are written to `folder`.
        """
        return VerifyWork(
            self._project,
            prepared,
            self._plan,
            self.options,
            observer,
            folder,
            self.details,
            alone=True,
        )

    def recall(self, prepared: Prepared) -> Verification | None:
        """See MatrixWorkload."""
        key = self._fingerprint(prepared) if self.options.cached else None
        found = cache.recall(self._project, cache.VERIFICATIONS, key) if key else None
        if found:
            self.details[prepared.kernel.id] = Details()
        return found

    def remember(self, prepared: Prepared, result: Verification) -> None:
        """See MatrixWorkload."""
        if result.outcome in FINE and (key := self._fingerprint(prepared)):
            cache.remember(self._project, cache.VERIFICATIONS, key, result)

    def _fingerprint(self, prepared: Prepared) -> str | None:
        """Return the fingerprint of all that decides the result; see `fingerprint_of`."""
        plan, options = self._plan, self.options
        named = [
            (place, one.name, one.programs, one.loader, one.preset, one.label)
            for place, one in plan.by_place.items()
        ]
        work = (
            named,
            [dataclasses.astuple(group) for group in plan.groups],
            sorted(plan.targets.items()),
            sorted(plan.requires.items()),
            plan.limit(prepared.accelerator.name),
            options.max_insns or self._project.config.verify.max_insns,
            [dataclasses.astuple(one) for one in plan.refused],
        )
        return fingerprint_of(prepared, work)

    def unprepared(self, kernel: KernelConfig, reason: str) -> Verification:
        """See MatrixWorkload."""
        self.details[kernel.id] = Details()
        return dataclasses.replace(unprepared(kernel, reason), refused=self._plan.refused)


def unprepared(kernel: KernelConfig, reason: str) -> Verification:
    """Return the result of a kernel that could not be prepared, or objects that could not be."""
    return Verification(kernel.id, Outcome.ERROR, reason, **unprepared_facts(kernel))


def _objects(
    project: Project, options: VerifyOptions, observer: Observer, archs: Collection[str]
) -> list[ObjectFile]:
    built: tuple[Path, ...] = ()
    folder = project.config.payload.ebpf
    if folder is not None and (
        not options.objects or _names_one_of(project.root / folder, options)
    ):
        built = ebpf.objects(project, observer.progress("", "build")).files
    progress = observer.progress("", "fetch")
    found = find(project, options.objects, built, observer.note, archs, progress)
    chosen = [one for one in found if may_load(options.names, one.name)]
    if not chosen:
        raise UsageError("--filter leaves no object to load", f"See {page('verify.md')}")
    return chosen


def _names_one_of(folder: Path, options: VerifyOptions) -> bool:
    """Whether `options` name an object that the project's own Makefile builds."""
    paths = [Path(os.path.normpath(Path.cwd() / pattern)) for pattern in options.objects]
    return any(path.is_relative_to(folder) or folder.is_relative_to(path) for path in paths)


class VerifyWork(Work[Verification]):
    """One kernel's verification, by one guest or by several that share the objects."""

    def __init__(
        self,
        project: Project,
        prepared: Prepared,
        plan: LoadPlan,
        options: VerifyOptions,
        observer: Observer,
        folder: Path,
        details: dict[str, Details],
        sessions: int = 1,
        *,
        alone: bool = False,
    ) -> None:
        """`sessions` is how many share the host; all else is the workload's own.

        With `alone`, one guest loads one program after another.
        """
        kernel, version = prepared.kernel, prepared.image.version or prepared.image.release
        super().__init__(folder)
        self.limit = prepared.run_limit
        self._project = project
        self._prepared = prepared
        self._plan = plan
        self._observer = observer
        self._folder = folder
        self._version = version
        self._details = details
        self._failure: tuple[Outcome, str] | None = None
        self._judge = Judge(
            options.max_insns or project.config.verify.max_insns,
            Expectations.of(kernel.expect, version),
        )
        self._facts = KernelFacts(
            module_of=UnloadedModules(prepared.image, kernel.loaded_modules).having
        )
        self._too_old = plan.too_old(version)
        weights = {
            place: one for place, one in plan.weights().items() if place not in self._too_old
        }
        programs = sum(len(plan.by_place[place].programs) for place in weights)
        accelerator = prepared.accelerator.name
        guests = 1 if alone else guests_for(accelerator, sessions, len(weights), programs)
        self.guests_at_once = guests
        workers = workers_for(accelerator, sessions, guests, kernel.qemu.cpus)
        self._workers = 1 if alone else workers
        self._left = Shares(weights, self.guests_at_once)
        self._shares: list[Share] = []
        self.needs_guest = bool(self._left)

    @property
    def needs_another_guest(self) -> bool:
        """See Work."""
        return bool(self._left)

    async def attend(self, entered: EnteredGuest) -> None:
        """See Work."""
        places = self._left.take()
        if not places:
            return
        kernel, prepared = self._prepared.kernel, self._prepared
        start = prepared.start(limits=UNLIMITED_MEMLOCK)
        commands = [
            (group, TestCommand(number, argv, prepared.run_limit.seconds, start=start))
            for number, (group, argv) in enumerate(self._commands(places), start=1)
        ]
        warnings = WarningCollector(kernel, self._version)
        share = Share(places, commands, self._collector(places), warnings, entered)
        self._shares.append(share)
        job = prepared.job([command for _, command in commands])
        await share.run(job, partial(self._observer.doing, kernel.id, "load"))

    def _commands(self, places: tuple[str, ...]) -> list[tuple[ObjectGroup, tuple[str, ...]]]:
        supervisor = self._prepared.payload.tests[0].path
        accelerator = self._prepared.accelerator.name
        return self._plan.commands(supervisor, places, self._workers, accelerator)

    def _collector(self, places: Iterable[str]) -> Collector:
        objects = {place: self._plan.by_place[place] for place in places}
        report = partial(self._observer.result, self._prepared.kernel.id)
        relative = self._project.relative
        return Collector(objects, self._folder, relative, self._judge, report, self._facts)

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """See Work."""
        self._failure = (outcome, reason)

    def _untouched(self) -> Collector:
        """Return a collector with a result for each program that no guest was given."""
        given = {place for share in self._shares for place in share.places}
        rest = self._collector(place for place in self._plan.by_place if place not in given)
        for place, reason in self._too_old.items():
            rest.skip(place, reason)
        if self._failure is not None:
            outcome, reason = self._failure
            untried = outcome if outcome is Outcome.INTERRUPTED else Outcome.ERROR
            rest.abandon(untried, Code.NOT_RUN, reason)
        return rest

    def result(self, session: GuestSession) -> Verification:
        """See Work."""
        shares, failure = self._shares, self._failure
        console = next((one.guest.console for one in shares if one.died), session.console)
        for share in shares:
            share.close(failure)
        collectors = [*(share.collector for share in shares), self._untouched()]
        programs = self._plan.in_order(collectors)
        outcome, reason = failure or verdict(programs)
        for share in shares:
            if outcome in FINE and (warned := share.warnings.failure()):
                outcome, reason = Outcome.FAILED, warned
            if outcome in FINE and share.oops:
                outcome, reason = (
                    Outcome.FAILED,
                    "the kernel had an oops while programs were loaded",
                )
        verification = Verification(
            self._prepared.kernel.id,
            outcome,
            reason,
            **session.facts(),
            programs=programs,
            maps=tuple(one for collector in collectors for one in collector.maps),
            refused=self._plan.refused,
            warnings=tuple(one for share in shares for one in share.warnings.close()),
            console=self._project.relative(console) if console.exists() else "",
        )
        self._details[verification.kernel] = Details(
            {key: lines for one in collectors for key, lines in one.lines.items()},
            {key: why for one in collectors for key, why in one.left_out.items()},
        )
        return verification

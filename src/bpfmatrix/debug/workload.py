"""What runs in the guest while gdb holds it: the tests, or the loading of eBPF objects.

A session of `invoke debug` differs in nothing else between the two.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.debug import loaded_programs
from bpfmatrix.debug.places import in_program
from bpfmatrix.payload.declared import NoTestsError
from bpfmatrix.payload.model import Payload
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import ProgramResult
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.workload import Work
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWork, SuiteWorkload, test_commands
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.workload import VerifyWorkload
from bpfmatrix.vm.limits import Limit

__all__ = ["DebuggedWorkload", "ObjectsUnderGdb", "TestsUnderGdb"]


class DebuggedWorkload(ABC):
    """What runs in the guest while gdb holds it."""

    noun: str
    """What ends when all is done, for messages: `the tests`."""

    def __init__(self, options: SessionOptions, limit: Limit) -> None:
        """`limit` is that of each test and each program: a person may stop them."""
        self.options = options
        self.limit = limit

    @property
    @abstractmethod
    def words(self) -> list[str]:
        """The options that choose what runs, as they are typed."""

    @property
    def programs(self) -> tuple[str, ...]:
        """The names of the programs that are loaded, once the payload is built.

        They are empty if anything may be loaded, as by tests.
        """
        return ()

    def check(self, breakpoints: Sequence[str]) -> None:  # noqa: B027 - tests may load anything
        """UsageError for a place in programs that none of them has, once the payload is built."""

    @abstractmethod
    def payload(self, arch: str, observer: Observer) -> Payload:
        """Build the payload for guests of an architecture; BpfmatrixError if that fails."""

    @abstractmethod
    def work(self, prepared: Prepared, observer: Observer, folder: Path) -> Work[Any]:
        """Return the part in the session of a kernel. Its logs are written to `folder`.

        BpfmatrixError if there is nothing to do.
        """


class TestsUnderGdb(DebuggedWorkload):
    """The tests that `options` name, or those that the project declares."""

    noun = "the tests"

    def __init__(self, project: Project, options: RunOptions, limit: Limit) -> None:
        super().__init__(options, limit)
        self._project = project
        self._tests = options

    @property
    def words(self) -> list[str]:
        """See DebuggedWorkload."""
        tests = self._tests
        words = ["--run", tests.run] if tests.run else []
        return words + [word for path in tests.binaries for word in ("--binary", str(path))]

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See DebuggedWorkload."""
        try:
            return SuiteWorkload(self._project, self._tests).payload(arch, observer)
        except NoTestsError as error:
            more = "Or load an eBPF object, without a test: --object FILE"
            raise NoTestsError(error.what, f"{error.advice}\n       {more}") from None

    def work(self, prepared: Prepared, observer: Observer, folder: Path) -> SuiteWork:
        """See DebuggedWorkload."""
        commands = test_commands(prepared, self._tests, self.limit)
        shown = _WithoutInterrupted(observer)
        return SuiteWork(self._project, prepared, commands, self._tests, shown, folder, self.limit)


class ObjectsUnderGdb(DebuggedWorkload):
    """The eBPF objects that `options` name, or those that the project declares.

    They are loaded by the loader of `verify`, one program after another.
    """

    noun = "the loader"

    def __init__(self, project: Project, options: VerifyOptions, limit: Limit) -> None:
        super().__init__(options, limit)
        self._project = project
        self._objects = dataclasses.replace(options, limit_seconds=limit.seconds)
        self._workload: VerifyWorkload | None = None

    @property
    def words(self) -> list[str]:
        """See DebuggedWorkload."""
        chosen = self._objects
        pairs: list[tuple[str, Sequence[str]]] = [
            ("--object", chosen.objects),
            ("--program", chosen.only),
            ("--loader", (",".join(chosen.loaders),) if chosen.loaders else ()),
            ("--preset", chosen.presets),
            ("--set", [f"{name}={value}" for name, value in chosen.set.items()]),
            ("--map-size", [f"{name}={value}" for name, value in chosen.map_sizes.items()]),
        ]
        words = [word for option, values in pairs for value in values for word in (option, value)]
        return words + (["--attach"] if chosen.attach else [])

    @property
    def programs(self) -> tuple[str, ...]:
        """See DebuggedWorkload."""
        return self._workload.names if self._workload else ()

    def check(self, breakpoints: Sequence[str]) -> None:
        """See DebuggedWorkload."""
        assert self._workload is not None
        if any(map(in_program, breakpoints)):
            known = loaded_programs.of_objects(self._workload.files)
            if known:
                loaded_programs.check(breakpoints, known)

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See DebuggedWorkload."""
        self._workload = VerifyWorkload.make(self._project, self._objects, observer, archs=(arch,))
        return self._workload.payload(arch, observer)

    def work(self, prepared: Prepared, observer: Observer, folder: Path) -> Work[Any]:
        """See DebuggedWorkload."""
        assert self._workload is not None
        return self._workload.work_alone(prepared, _WithoutInterrupted(observer), folder)


class _WithoutInterrupted(Observer):
    """Passes on results, except of what was interrupted: whoever quit gdb knows those."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def executables(self, kernel: str, names: Sequence[str]) -> None:
        """See Observer."""
        self._observer.executables(kernel, names)

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        if result.outcome is not Outcome.INTERRUPTED:
            self._observer.result(kernel, result)


def without_limit(kernel: KernelConfig, limit: Limit) -> KernelConfig:
    """Return the kernel with a run's limit that no person reaches."""
    timeout = kernel.timeout.model_copy(update={"run": limit.seconds})
    return kernel.model_copy(update={"timeout": timeout})

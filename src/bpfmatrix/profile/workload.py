"""The workload that runs a Python script in a guest and samples its stacks there by eBPF.

`ProfileWorkload` takes a `Script` and gives a `Recording`. The tracer in the guest is
support/cmd/python-tracer.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.payload import extra_files, shipped
from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.model import Payload
from bpfmatrix.profile.guest_python import GuestPython
from bpfmatrix.profile.recording import PYTHON_FOLDER, SCRIPTS_FOLDER, Recording
from bpfmatrix.profile.script import Script, ScriptRequest
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.session.guest_session import EnteredGuest, GuestSession
from bpfmatrix.session.json_lines import JsonLines
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.session.workload import Work, Workload, writing
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.protocol import UNLIMITED_MEMLOCK, Exited, Output, TestCommand

__all__ = ["ProfileOptions", "ProfileWork", "ProfileWorkload"]

# How long the tracer may take around the script. Its programs are verified in about 2 s.
_TRACER_SECONDS = 60.0


@dataclass(frozen=True)
class ProfileOptions(SessionOptions):
    """The options of `invoke profile-python`."""

    limit_seconds: float | None = None
    """The time limit of the script; None for the kernel's `timeout.test`."""
    rate: int = 200
    """How many samples are taken of each CPU in a second."""


class ProfileWorkload(Workload[Recording]):
    """One Python script, to be run under the tracer."""

    options: ProfileOptions

    def __init__(
        self,
        project: Project,
        request: ScriptRequest,
        options: ProfileOptions,
        say: Callable[[str], None],
    ) -> None:
        """`say` is called with each piece of the script's output."""
        super().__init__(options)
        self._project = project
        self._request = request
        self._script: Script | None = None
        self._say = say

    @property
    def script(self) -> Script:
        """The script and its files, once `payload` has found them."""
        assert self._script
        return self._script

    def payload(self, arch: str, observer: Observer) -> Payload:
        """See Workload; UsageError or BpfmatrixError if the host has no Python for the guest."""
        project, progress = self._project, observer.progress("", "build")
        python = GuestPython.choose(self._request.python, arch)
        compiled = project.cache.root / "compiled-python"
        listing = python.listing(compiled, self._request.optimize)
        library = extra_files.listed(project, {PYTHON_FOLDER: listing}, arch, progress)
        progress(f"the files of {self._request.name}")
        script = self._script = python.script(self._request, compiled)
        tracer = shipped.guest_program(project, "python-tracer", arch, progress)
        extra = {
            **extra_files.named(project.root, project.config.payload.files),
            **{f"{PYTHON_FOLDER}/{place}": path for place, path in script.packages.items()},
            **library,
            **{f"{SCRIPTS_FOLDER}/{place}": path for place, path in script.files.items()},
        }
        tests = (executable(tracer, arch),)
        objects = (shipped.tracer_object(project, progress),)
        version = ".".join(map(str, python.version))
        observer.step("", "python", f"CPython {version}, {python.python}", "")
        return Payload(tests, objects, dict(project.config.payload.env), extra)

    def work(self, prepared: Prepared, observer: Observer) -> "ProfileWork":
        """See Workload."""
        limit = prepared.limit(prepared.kernel.timeout.test, "timeout.test")
        if self.options.limit_seconds:
            limit = Limit(self.options.limit_seconds, "--timeout")
        words = (
            f"-every={1_000_000 // self.options.rate}us",
            # Of the script alone: it begins when the tracer starts it.
            f"-limit={limit.seconds}s",
            f"-modules=/payload/{SCRIPTS_FOLDER}",
        )
        [(_, argv)] = prepared.payload.commands(None, (*words, "--", *self.script.words))
        folder = self._folder(prepared.kernel)
        # As if the script was started in its own folder.
        place = Path(f"/payload/{SCRIPTS_FOLDER}") if self.script.files else None
        start = prepared.start(place, limits=UNLIMITED_MEMLOCK)
        command = TestCommand(1, argv, limit.seconds + _TRACER_SECONDS, start=start)
        return ProfileWork(prepared, command, limit, folder, self._say)

    def begin(self, kernel: KernelConfig) -> None:
        """See Workload."""
        folder = self._folder(kernel)
        shutil.rmtree(folder, ignore_errors=True)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def _folder(self, kernel: KernelConfig) -> Path:
        return self._project.state / "profile" / kernel.id


class ProfileWork(Work[Recording]):
    """The run of one script on one kernel."""

    def __init__(
        self,
        prepared: Prepared,
        command: TestCommand,
        limit: Limit,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """`limit` is that of the script."""
        super().__init__(folder)
        self.limit = prepared.run_limit
        self._limit = limit
        self._prepared = prepared
        self._command = command
        self._folder = folder
        self._say = say
        self._output = JsonLines()
        self._samples: list[bytes] = []
        self._summary: dict[str, Any] = {}
        self._messages: list[str] = []
        self._exited: Exited | None = None
        self._trouble = ""

    async def attend(self, entered: EnteredGuest) -> None:
        """See Work."""
        async for event in entered.machine.run(self._prepared.job([self._command])):
            match event:
                case Output():
                    self._feed(event.data)
                case Exited():
                    self._exited = event

    def _feed(self, data: bytes) -> None:
        for line, event in self._output.feed(data):
            if event is None:
                self._messages.append(line.decode(errors="replace"))
            elif "output" in event:
                self._say(event["output"])
            elif "summary" in event:
                self._summary = event["summary"]
            else:
                self._samples.append(line)

    async def fail(self, outcome: Outcome, reason: str) -> None:
        """See Work."""
        self._trouble = reason

    def result(self, session: GuestSession) -> Recording:
        """See Work; BpfmatrixError if there is neither a sample nor a summary."""
        path, trouble, exited = self._folder / "samples.jsonl", self._trouble, self._exited
        path.write_bytes(b"".join(line + b"\n" for line in self._samples))
        if self._summary.get("timed_out"):
            trouble = f"the script was stopped after its limit of {self._limit}"
        elif exited and exited.limit:
            trouble = f"the tracer did not end within {_TRACER_SECONDS:g} s and the script's limit"
        elif exited and not self._summary:
            last = self._messages[-1] if self._messages else exited.reason
            trouble = last.removeprefix("python-tracer: ")
            trouble = trouble or "the tracer ended without a summary"
        if not self._summary and not self._samples:
            raise BpfmatrixError(f"no sample was taken: {trouble}")
        python = {
            name.removeprefix(f"{PYTHON_FOLDER}/"): file
            for name, file in self._prepared.payload.extra.items()
            if name.startswith(f"{PYTHON_FOLDER}/")
        }
        return Recording(path, python, self._summary, trouble)

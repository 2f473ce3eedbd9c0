"""A Python script run in a guest, and its stacks sampled there by eBPF.

`record` takes a script and gives a `Recording`: the stacks as the tracer saw them, which `lines`
turns into lines of source. What runs in the guest is support/cmd/python-tracer.
"""

import asyncio
import json
import modulefinder
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.payload import extra_files, shipped
from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.model import Payload
from bpfmatrix.session.guest import Stay, failure_of
from bpfmatrix.session.observer import Listener
from bpfmatrix.session.options import Options
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.vm.protocol import Exited, Output

__all__ = ["Recording", "Script", "record"]

TREE, SCRIPTS = "python", "script"


@dataclass(frozen=True)
class Script:
    """A script and the modules beside it that it imports."""

    path: Path
    files: Mapping[str, Path]
    """The script and these modules, by their paths below the script's folder."""

    @classmethod
    def find(cls, path: Path) -> "Script":
        """Look at a script; UsageError if there is none."""
        if not path.is_file():
            raise UsageError(f"{path}: no such script")
        path = path.absolute()
        # Only that folder is searched: what is not found there is the standard library's.
        finder = modulefinder.ModuleFinder(path=[str(path.parent)])
        found = [path]
        try:
            finder.run_script(str(path))
        except (SyntaxError, ValueError):
            pass  # which the guest's Python will say
        else:
            files = (getattr(module, "__file__", None) for module in finder.modules.values())
            found += [Path(file) for file in files if file]
        return cls(path, {str(file.relative_to(path.parent)): file for file in found})


@dataclass(frozen=True)
class Recording:
    """What came of a run."""

    samples: Path
    """JSON lines, as pylines reads them: each different stack, with its count."""
    python: Mapping[str, Path]
    """The guest's Python, as a tree of files of the host's."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """What the tracer says of itself: `python`, `status`, `counters`; empty if it could not."""
    trouble: str = ""
    """Why it did not end by itself; empty if it did."""

    @property
    def interpreter(self) -> Path:
        """The Python itself."""
        return self.python["bin/python3"]

    @property
    def library(self) -> Path:
        """The folder of its standard library."""
        modules = {place.split("/", 2)[-1]: path for place, path in self.python.items()}
        found = modules.get("os.pyc") or modules["os.py"]
        return found.parent.parent if found.parent.name == "__pycache__" else found.parent


def record(
    project: Project,
    kernel_id: str,
    script: Script,
    arguments: Sequence[str],
    options: Options,
    listener: Listener,
    say: Callable[[str], None],
) -> Recording:
    """Run a script on a kernel and sample it. `say` is given what the script prints.

    BpfmatrixError where it could not be run; a script that fails is in the summary.
    """
    kernel = project.config.kernel(kernel_id)

    def progress(text: str, fraction: float | None = None) -> None:
        listener.doing("", "build", text, fraction)

    settings = project.config.payload
    command = ["python3", str(shipped.python_lister()), "--whole"]
    python = extra_files.listed(project, {TREE: command}, kernel.arch, progress)
    if not python:
        raise BpfmatrixError(
            f"this machine has no CPython 3.11, 3.12 or 3.13 for {kernel.arch}",
            "Install one, or let BPFMATRIX_PYTHON name it.",
        )
    tracer = shipped.guest_program(project, "python-tracer", kernel.arch, progress)
    extra = {
        **extra_files.named(project.root, settings.files),
        **python,
        **{f"{SCRIPTS}/{place}": path for place, path in script.files.items()},
    }
    tests = (executable(tracer, kernel.arch),)
    objects = (shipped.tracer_object(project, progress),)
    words = (f"{SCRIPTS}/{script.path.name}", *arguments)
    payload = Payload(tests, objects, dict(settings.env), extra)
    asked = Options(test_seconds=options.test_seconds, arguments=words, cold=options.cold)
    prepared = prepare(project, kernel, payload, asked, listener)
    folder = project.state / "profile" / kernel.id
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    stay = Stay(project, prepared, folder / "console.log", listener, cold=options.cold)
    run = _Run(prepared, stay, folder, say)
    failure = asyncio.run(failure_of(run.go(), kernel.timeout.run))
    own = {place.removeprefix(f"{TREE}/"): path for place, path in python.items()}
    return run.finish(own, failure[1] if failure else "")


class _Run:
    def __init__(
        self,
        prepared: Prepared,
        stay: Stay,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._prepared = prepared
        self._stay = stay
        self._folder = folder
        self._say = say
        self._rest = b""
        self._samples: list[bytes] = []
        self._summary: dict[str, Any] = {}
        self._said: list[str] = []
        self._exited: Exited | None = None

    async def go(self) -> None:
        """Boot, run the tracer, and take in what it prints."""
        async with self._stay.begin() as guest:
            async for event in guest.run(self._prepared.job):
                match event:
                    case Output():
                        self._feed(event.data)
                    case Exited():
                        self._exited = event

    def _feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                told = json.loads(line)
            except ValueError:
                self._said.append(line.decode(errors="replace"))
                continue
            if "output" in told:
                self._say(told["output"])
            elif "summary" in told:
                self._summary = told["summary"]
            else:
                self._samples.append(line)

    def finish(self, python: Mapping[str, Path], trouble: str) -> Recording:
        """Write the samples and return what came of it all."""
        path = self._folder / "samples.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in self._samples))
        ended = self._exited
        if ended and ended.limit:
            limit = self._prepared.tests[0][1].limit_seconds
            trouble = f"it was ended after {limit:g} s"
        elif ended and not self._summary:
            said = self._said[-1].removeprefix("python-tracer: ") if self._said else ended.reason
            trouble = said or "the tracer did not say what came of it"
        if not self._summary and not self._samples:
            raise BpfmatrixError(f"no sample was taken: {trouble}")
        return Recording(path, python, self._summary, trouble)

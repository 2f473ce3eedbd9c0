"""One run of the soak: a project's folder is made from a plan, and bpfmatrix runs in it.

`Trial.run` returns what was wrong, in sentences: a verdict, an exit status, a log, something that
the run left behind. If nothing was, it removes the folder.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bpfmatrix.vm.limits import EMULATION_FACTOR
from tests.soak import leftovers
from tests.soak.plans import ARM, Plan, Strike, disagreements
from tests.soak.programs import WAITING, Program
from tests.tool import REPOSITORY, plain_environment

__all__ = ["Site", "StoppedError", "Trial"]

# A run without a limit of its own must end within this time on a machine that is not slow.
_COMMAND_SECONDS = 300.0
_TEST_SECONDS = 200.0
# A process that was sent SIGINT or SIGTERM is sent it again after this time: Python loses the
# exception of a signal that arrives while it collects garbage.
_AGAIN_SECONDS = 20.0
# How much longer than a command its processes may run: the kernel ends them if it was killed.
_LEFT_SECONDS = {"killed": 20.0, "ended": 5.0}
_POLL_SECONDS = 0.02
_SAID_LINES = 15
_AGAIN = "again"


class StoppedError(Exception):
    """The session is being ended."""


@dataclass(frozen=True)
class Site:
    """What all runs of a session share."""

    work: Path
    """The temporary folder of the session."""
    kept: Path
    """Where the folders of wrong runs go."""
    binaries: Path
    """The folder of the Go programs, of which each architecture has its own below it."""
    children: leftovers.Children
    stop: threading.Event
    """Set when the session is being ended."""
    scale: float = 1.0
    """By which limits of time are multiplied."""
    keep: bool = False
    """Whether the folders of runs that were right are kept too."""

    @property
    def cache(self) -> Path:
        return self.work / "cache"


class Trial:
    """One run."""

    def __init__(self, plan: Plan, site: Site, name: str = "") -> None:
        self.plan = plan
        self._site = site
        self._name = name or str(plan.seed)
        self._mark = f"{site.work.name}/{self._name}"
        self._root = site.work / "runs" / self._name
        self._project = self._root / "project"
        self._wrong: list[str] = []

        self.seconds = 0.0
        """How long it took, when it has ended."""
        self.sent_again = 0
        """How often a signal had to be sent again, since bpfmatrix did not end."""

    @property
    def folder(self) -> Path:
        """Where the folder is afterwards, if it is kept."""
        return self._site.kept / self._name

    def run(self) -> list[str]:
        """Run it, and return what was wrong; StoppedError if the session is being ended."""
        started = time.monotonic()
        try:
            self._write()
            status = self._command(self._words(), "output.txt", self.plan.strike)
            self._compare(status)
            self._look_for_leftovers()
            if self.plan.ending == "tool":
                self._run_again()
                self._look_for_leftovers()
        except StoppedError:
            raise
        except Exception:
            self._keep()
            raise
        finally:
            self.seconds = time.monotonic() - started
            self._end_processes()
        if self._wrong or self._site.keep:
            self._keep()
        else:
            shutil.rmtree(self._root)
        return self._wrong

    def _keep(self) -> None:
        head = f"took {self.seconds:.1f} s, signals sent again: {self.sent_again}"
        report = [str(self.plan), head, *self._wrong]
        (self._root / "report.txt").write_text("".join(f"{line}\n" for line in report))
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.move(self._root, self.folder)

    # The project's folder

    def _write(self) -> None:
        for folder in ("project", "project/data", "project/shared", "tmp", "run"):
            (self._root / folder).mkdir(parents=True)
        (self._root / "run").chmod(0o700)
        write_project(self._project, self.plan, self._site.scale)
        shared = self._project / "shared/word"
        shared.write_text(f"{self.plan.seed}\n")
        for program in self.plan.programs:
            self._write_program(program)

    def _write_program(self, program: Program) -> None:
        path = self._project / program.file
        if program.acts or program.forges:
            arch = "aarch64" if ARM in self.plan.kernels else "x86_64"
            name = "forge" if program.forges else "soak.test"
            if not path.exists():
                os.link(self._site.binaries / arch / name, path)
            return
        head = ["#!/bin/sh"]
        if program.printed:
            (self._project / "data" / program.name).write_bytes(program.printed.content())
            head.append(f"output=/payload/data/{program.name}")
        if self.plan.share:
            word = self._project / "shared/word"
            head.append(f"[ \"$(cat '{word}')\" = {self.plan.seed} ] || exit 99")
        script = "\n".join((*head, program.script.strip("\n"), "")).encode()
        padding = random.Random(self.plan.seed).randbytes(program.padding_bytes)
        path.write_bytes(script + padding)
        path.chmod(0o755)

    # The command

    def _words(self) -> list[str]:
        plan = self.plan
        options = [word for p in plan.programs for word in ("--binary", p.file)]
        options += ["--cold"] if plan.cold else []
        options += ["--share", str(self._project / "shared")] if plan.share else []
        if plan.test_limit_seconds:
            options += ["--timeout", f"{plan.test_limit_seconds * self._site.scale:g}s"]
        return command_words(plan.front, plan.kernels, options)

    def _command(self, words: Sequence[str], output: str, strike: Strike | None = None) -> int:
        """Run a command to its end, and return its exit status. Its output goes to a file."""
        said = self._root / output
        site = self._site
        with said.open("wb") as file:
            process = site.children.start(
                list(words),
                cwd=self._project,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if strike:
                self._strike(strike, process)
            limit = _COMMAND_SECONDS * site.scale
            if not self._until(lambda: process.poll() is not None, limit):
                self._wrong.append(f"the command did not end within {limit:g} s")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            site.children.ended(process)
        if "Traceback" in (text := said.read_text(errors="replace")) and not (
            strike and strike.moment == "early"
        ):
            self._wrong.append("the command printed a traceback")
        if self._wrong:
            self._wrong += [f"  {line}" for line in text.splitlines()[-_SAID_LINES:]]
        return process.returncode

    def _environment(self) -> dict[str, str]:
        own = {
            "BPFMATRIX_CACHE": str(self._site.cache),
            "TMPDIR": str(self._root / "tmp"),
            "XDG_RUNTIME_DIR": str(self._root / "run"),
            leftovers.VARIABLE: self._mark,
        }
        return {**plain_environment(), **own}

    def _until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait until a condition holds; return whether it did. StoppedError ends the wait."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            if self._site.stop.wait(_POLL_SECONDS):
                raise StoppedError
        return True

    def _strike(self, strike: Strike, process: "subprocess.Popen[bytes]") -> None:
        """Wait for the moment, and send the signal; nothing if the process ended before it."""
        moments: Mapping[str, Callable[[], object]] = {
            "waiting": self._is_waiting,
            "boot": self._boots,
            "early": lambda: True,
        }
        moment = moments[strike.moment]
        limit = _COMMAND_SECONDS * self._site.scale
        ended = process.poll
        if not self._until(lambda: moment() or ended() is not None, limit) or ended() is not None:
            self._wrong.append(
                f"the moment to send {strike.signal.name} never came: {strike.moment}"
            )
            return
        if strike.moment != "early":
            self._wrong += leftovers.listening(leftovers.processes(self._mark))
        self._until(lambda: ended() is not None, strike.delay_seconds)
        if strike.target == "qemu":
            for qemu in self._qemus():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(qemu.pid, strike.signal)
            return
        send = os.killpg if strike.to_group else os.kill
        for count in range(4):
            # The process keeps its id until `ended` has seen its end.
            if ended() is None:
                self.sent_again = count
                send(process.pid, strike.signal)
            if self._until(lambda: ended() is not None, _AGAIN_SECONDS * self._site.scale):
                return

    def _is_waiting(self) -> bool:
        [kernel] = self.plan.kernels
        try:
            with self._log(kernel, "ending").open("rb") as file:
                return file.read(len(WAITING)) == WAITING
        except OSError:
            return False

    def _boots(self) -> bool:
        [kernel] = self.plan.kernels
        console = self._results / kernel / "console.log"
        return console.exists() and console.stat().st_size > 0 and bool(self._qemus())

    def _qemus(self) -> list[leftovers.Process]:
        return [p for p in leftovers.processes(self._mark) if p.name.startswith("qemu-system")]

    # The comparison

    @property
    def _results(self) -> Path:
        return self._project / ".bpfmatrix/results"

    def _log(self, kernel: str, program: str) -> Path:
        return self._results / kernel / f"{program}.log"

    def _found(self, kernel: str) -> Any:
        """Return the content of a result file; None if there is none."""
        try:
            return json.loads((self._results / f"{kernel}.json").read_bytes())
        except FileNotFoundError:
            return None

    def _compare(self, status: int) -> None:
        plan = self.plan
        if not plan.right_status(status):
            self._wrong.append(f"the command ended with the status {status}")
        for kernel in plan.kernels:
            found = self._found(kernel)
            self._wrong += disagreements(plan, kernel, found)
            if found is not None and plan.results_decide:
                self._compare_outputs(kernel, found)
        if self._wrong and not any(line.startswith("  ") for line in self._wrong):
            text = (self._root / "output.txt").read_text(errors="replace")
            self._wrong += [f"  {line}" for line in text.splitlines()[-_SAID_LINES:]]

    def _compare_outputs(self, kernel: str, found: Mapping[str, Any]) -> None:
        outputs = {test["binary"]: test["output"] for test in found["tests"]}
        for program in self.plan.begun:
            if not program.exact or program.printed is None or program.name not in outputs:
                continue
            right = program.printed.content()
            log = self._log(kernel, program.name)
            there = log.read_bytes() if log.exists() else b""
            if there != right:
                self._wrong.append(
                    f"{kernel}: {program.name}: its log has {_difference(there, right)}"
                )
            whole = program.printed.pattern == "lines" and len(right) < 5000
            if whole and outputs[program.name].encode() != right:
                self._wrong.append(f"{kernel}: {program.name}: another output in its result")

    # What follows

    def _run_again(self) -> None:
        """Run something simple in the same folder, which an ended run has left."""
        script = self._project / _AGAIN
        script.write_text(f"#!/bin/sh\n# {self.plan.seed}\necho again\n")
        script.chmod(0o755)
        words = command_words("invoke", self.plan.kernels, ["--binary", _AGAIN])
        status = self._command(words, "again.txt")
        for kernel in self.plan.kernels:
            found = self._found(kernel) or {}
            tests = [(test["name"], test["outcome"]) for test in found.get("tests", [])]
            if (status, found.get("outcome"), tests) != (0, "passed", [(_AGAIN, "passed")]):
                text = (self._root / "again.txt").read_text(errors="replace")
                self._wrong.append(
                    f"{kernel}: the next run is {found.get('outcome')} with status {status}"
                )
                self._wrong += [f"  {line}" for line in text.splitlines()[-_SAID_LINES:]]

    def _look_for_leftovers(self) -> None:
        left: list[leftovers.Process] = []

        def nothing_left() -> bool:
            # An orphan that has ended is waited for, so that it is no longer found.
            self._site.children.orphans()
            left[:] = leftovers.processes(self._mark)
            return not left

        limit = _LEFT_SECONDS["killed" if self.plan.ending == "tool" else "ended"]
        if not self._until(nothing_left, limit * self._site.scale):
            self._wrong += [f"left running: {process}" for process in left]
        for folder in ("tmp", "run"):
            files = leftovers.files_below(self._root / folder)
            self._wrong += [f"left in the folder of temporary files: {name}" for name in files]

    def _end_processes(self) -> None:
        for process in leftovers.processes(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def command_words(front: str, kernels: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return a command line of bpfmatrix that runs programs on these kernels."""
    several = ["--kernels", ",".join(kernels)]
    python = [sys.executable, "-m"]
    if front == "invoke" and len(kernels) == 1:
        return [*python, "invoke", "run", "--kernel", kernels[0], *options]
    if front == "invoke":
        return [*python, "invoke", "matrix", *several, *options]
    if len(kernels) == 1:
        return [*python, "nox", "-s", f"kernel-{kernels[0]}", "--", *options]
    return [*python, "nox", "-s", "matrix", "--", *several, *options]


def write_project(root: Path, plan: Plan, scale: float) -> None:
    """Write a project's kernels.yaml, tasks.py and noxfile.py."""
    ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["kernels"]
    env = {f"SOAK_{p.name}": ",".join(p.acts) for p in plan.programs if p.acts}
    for number, program in enumerate(plan.programs, start=1):
        if program.forges:
            env["SOAK_FORGE_ID"] = str(number)
            env |= {"SOAK_FORGE_BOUNDARY": "yes"} if program.forges == "boundary" else {}
    timeout = {"boot": f"{120 * scale:g}s", "test": f"{_TEST_SECONDS * scale:g}s"}
    if plan.run_limit_seconds:
        # The keys of kernels.yaml are for KVM, and the limit of the run is to be exact.
        timeout["run"] = f"{plan.run_limit_seconds * scale / EMULATION_FACTOR:g}s"
    kernels = {
        id: {key: value for key, value in ours[id].items() if key in ("arch", "source")}
        for id in plan.kernels
    }
    data = {
        "defaults": {"timeout": timeout, "qemu": {"accel": "tcg"}},
        "payload": {"ebpf": None, "go": None, "env": env, "files": {"data": "data"}},
        "kernels": kernels,
    }
    (root / "kernels.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (root / "tasks.py").write_text("from bpfmatrix.tasks import namespace as namespace\n")
    (root / "noxfile.py").write_text("from bpfmatrix.sessions import register\n\nregister()\n")


def _difference(there: bytes, right: bytes) -> str:
    at = next((n for n, (a, b) in enumerate(zip(there, right, strict=False)) if a != b), None)
    at = min(len(there), len(right)) if at is None else at
    return (
        f"{len(there)} bytes, not {len(right)}; at {at} {there[at : at + 60]!r}, "
        f"not {right[at : at + 60]!r}"
    )

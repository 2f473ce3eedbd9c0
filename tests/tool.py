"""Helpers to run bpfmatrix as a user does: in a project's folder, by `invoke` in a subprocess.

Tests get a `ToolProject` from the fixture `project`. Limits in seconds only end tests that fail.
They are long, since a slow machine must not fail a test.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, TestResult

REPOSITORY = Path(__file__).parent.parent
NO_PAYLOAD: Mapping[str, Any] = {"ebpf": None, "go": None}


@dataclass(frozen=True)
class Finished:
    """A command that ended. `output` is its standard output and standard error, in one."""

    status: int
    output: str
    seconds: float


@dataclass(frozen=True)
class ToolProject:
    """A project's folder with a kernels.yaml, a tasks.py and a noxfile.py."""

    root: Path

    def configure(
        self,
        kernels: Sequence[str] = ("6.1",),
        payload: Mapping[str, Any] = NO_PAYLOAD,
        **defaults: Any,
    ) -> None:
        """Write kernels.yaml, tasks.py and noxfile.py.

        Kernels have the sources of this repository's kernels.yaml. Further keywords are keys of
        `defaults:`.
        """
        ours = yaml.safe_load((REPOSITORY / "kernels.yaml").read_text())["kernels"]
        data = {
            "defaults": defaults,
            "payload": dict(payload),
            "kernels": {id: {"source": ours[id]["source"]} for id in kernels},
        }
        self.root.mkdir(exist_ok=True)
        (self.root / "kernels.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
        (self.root / "tasks.py").write_text("from bpfmatrix.tasks import namespace as namespace\n")
        (self.root / "noxfile.py").write_text(
            "from bpfmatrix.sessions import register\n\nregister()\n"
        )

    def expect(self, **entry: str) -> None:
        """Add an entry to `expect:` of kernels.yaml."""
        path = self.root / "kernels.yaml"
        data = yaml.safe_load(path.read_text())
        data.setdefault("expect", []).append(entry)
        path.write_text(yaml.safe_dump(data, sort_keys=False))

    def script(self, name: str, text: str) -> str:
        """Write an executable script for the guest's shell, as a whole; return its name."""
        path = self.root / name
        new = path.with_name(f".{path.name}.new")
        new.write_text(f"#!/bin/sh\n{text}\n")
        new.chmod(0o755)
        new.replace(path)
        return name

    def command(self, *words: str) -> list[str]:
        """Return the command line of an invoke task."""
        return [sys.executable, "-m", "invoke", *words]

    def start(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
        **more: Any,
    ) -> "subprocess.Popen[str]":
        """Start an invoke task, its output in a pipe."""
        return subprocess.Popen(
            self.command(*words),
            cwd=self.root,
            env={**plain_environment(), **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **more,
        )

    def invoke(self, *words: str, env: Mapping[str, str] | None = None) -> Finished:
        """Run an invoke task to its end."""
        return self.finish(self.start(*words, env=env))

    def finish(self, process: "subprocess.Popen[str]") -> Finished:
        """Wait until a started task ends. If it never does, the test fails."""
        started = time.monotonic()
        with process:
            try:
                output, _ = process.communicate(timeout=1200)
            finally:
                process.kill()
        return Finished(process.returncode, output, time.monotonic() - started)

    def run(
        self, *binaries: str, kernel: str = "6.1", options: Sequence[str] = ()
    ) -> tuple[Finished, KernelRun]:
        """Run executables on a kernel; return the ended command and the recorded result."""
        chosen = [word for name in binaries for word in ("--binary", name)]
        done = self.invoke("run", "--kernel", kernel, *chosen, *options)
        return done, self.result(kernel)

    def result(self, kernel: str = "6.1") -> KernelRun:
        """Return the result of the last run on a kernel."""
        return files.read_run(self.root / f".bpfmatrix/results/{kernel}.json")


def plain_environment() -> dict[str, str]:
    """Return this process's environment without the variables that change how the tool prints."""
    changing = (
        "NO_COLOR",
        "FORCE_COLOR",
        "GITHUB_ACTIONS",
        "GITHUB_STEP_SUMMARY",
        "COLUMNS",
        "TTY_COMPATIBLE",
    )
    # Unbuffered, since tests wait for lines in a pipe.
    return {k: v for k, v in os.environ.items() if k not in changing} | {"PYTHONUNBUFFERED": "1"}


def by_name(run: KernelRun) -> dict[str, TestResult]:
    """Return the tests of a run by their names."""
    return {test.name: test for test in run.tests}


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait until a condition of another process holds; the test fails if it never does.

    It is for conditions that nothing announces, such as a file that appears. `what` names the
    condition.
    """
    started = time.monotonic()
    while not condition():
        took = time.monotonic() - started
        assert took < seconds, f"after {took:.1f} s still not: {what}"
        time.sleep(0.02)


def qemus_of(project: ToolProject) -> list[int]:
    """Return the ids of the QEMU processes whose working directory is the project's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            comm, folder = (process / "comm").read_text(), (process / "cwd").readlink()
        except OSError:  # it ended meanwhile
            continue
        if comm.startswith("qemu-system") and folder == project.root:
            found.append(int(process.name))
    return found

"""Measurements of machines without the command line: boots, tests, memory, parts of a run.

`python -m benchmarks.guests TIME KERNEL BINARY` prints the parts of a run that started at TIME.
"""

import time

_BEGUN = time.time()

# ruff: noqa: E402 - the imports are measured, so the clock starts before them

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

from bpfmatrix import kernels
from bpfmatrix.config.project import Project
from bpfmatrix.guest import busybox
from bpfmatrix.guest.cpio import Entry, pack
from bpfmatrix.host.architecture import X86_64
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.verification import ProgramResult, Verification
from bpfmatrix.session.guest_session import EnteredGuest, enter
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.pipeline import prepare_one, run_prepared
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWorkload

_IMPORTED = time.time()
_BOOT_LIMIT_SECONDS = 120


class Stopwatch(Observer):
    """An observer that records when the tests began and ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Observer."""
        if name == "test" and not self.begun:
            self.begun = time.monotonic()

    def result(self, kernel: str, result: TestResult | ProgramResult) -> None:
        """See Observer."""
        self.ended = time.monotonic()

    def finished(self, run: KernelRun | Verification) -> None:
        """See Observer."""
        if run.outcome != "passed":
            raise SystemExit(f"{run.kernel}: {run.outcome}: {run.reason}")


def bare_boot_seconds(project: Project, kernel: str, elf: bool, folder: Path) -> float:
    """Boot a kernel in an untuned QEMU, to a shell that powers off at once; return the seconds."""
    image, _ = kernels.provide(project.config.kernel(kernel), project.cache)
    archive = folder / "bare.cpio"
    if not archive.exists():
        program = busybox.executable(X86_64.name, project.cache).read_bytes()
        script = b"#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n"
        entries = [
            *(Entry.folder("bin"), Entry.file("bin/busybox", program, executable=True)),
            *(Entry.folder("dev"), Entry.file("init", script, executable=True)),
        ]
        archive.write_bytes(pack(entries))
    command = [
        *(X86_64.qemu, "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2"),
        *("-m", "512M", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image.boot if elf else image.vmlinuz), "-initrd", str(archive)),
        *("-serial", "stdio", "-append", "console=ttyS0 panic=-1"),
    ]
    started = time.monotonic()
    subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=_BOOT_LIMIT_SECONDS,
    )
    return time.monotonic() - started


def prepared(project: Project, kernel: str, options: RunOptions) -> Prepared:
    """Prepare a machine for its start."""
    return prepare_one(project, kernel, SuiteWorkload(project, options), Observer())


async def run_suite(
    project: Project,
    ready: Prepared,
    options: RunOptions,
    observer: Observer,
    entered: EnteredGuest,
) -> None:
    """Run the tests in a guest that is ready."""
    workload = SuiteWorkload(project, options)
    await run_prepared(project, ready, workload, observer, entered=entered)


def tests_seconds(project: Project, kernel: str, options: RunOptions) -> float:
    """Return the seconds of the tests alone, from start to exit, in a running guest."""

    async def once() -> float:
        ready, watch = prepared(project, kernel, options), Stopwatch()
        console = project.state / "bench-console.log"
        async with enter(project, ready, console, Observer()) as entered:
            await run_suite(project, ready, options, watch, entered)
        return watch.ended - watch.begun

    return asyncio.run(once())


def memory_bytes(project: Project, kernel: str, count: int, script: Path) -> int:
    """Return the peak memory of `count` machines at once: the sum of proportional set sizes."""

    async def machine(ready: Prepared, number: int, all_run: asyncio.Barrier) -> None:
        console = project.state / f"bench-console-{number}.log"
        async with enter(project, ready, console, Observer()) as entered:
            # All machines run at the same time while their memory is measured.
            await all_run.wait()
            await run_suite(project, ready, RunOptions(binaries=(script,)), Observer(), entered)

    async def largest() -> int:
        all_run = asyncio.Barrier(count)
        ready = prepared(project, kernel, RunOptions(binaries=(script,)))
        tasks = [asyncio.create_task(machine(ready, number, all_run)) for number in range(count)]
        found = 0
        while not all(task.done() for task in tasks):
            found = max(found, sum(map(_pss_bytes, _children())))
            await asyncio.sleep(0.1)
        await asyncio.gather(*tasks)
        return found

    return asyncio.run(largest())


def _children() -> list[str]:
    found = []
    for tasks in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += tasks.read_text().split()
    return found


def _pss_bytes(pid: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "Pss":
                return int(value.split()[0]) << 10
    return 0


def parts_of_a_run(begun: float, kernel: str, binary: Path) -> dict[str, float]:
    """Return the seconds of each part of a warm run, in order."""
    marks = [("Python starts", _BEGUN - begun), ("imports", _IMPORTED - _BEGUN)]
    last = time.time()

    def mark(name: str) -> None:
        nonlocal last
        now = time.time()
        marks.append((name, now - last))
        last = now

    project = Project.load()
    mark("reading kernels.yaml")
    options = RunOptions(binaries=(binary,))
    settings = project.config.kernel(kernel)
    payload = SuiteWorkload(project, options).payload(settings.arch, Observer())
    mark("checking the build")
    ready = prepare(project, settings, payload, options, Observer())
    mark("looking up kernel, payload and template")

    async def machine() -> None:
        console = project.state / "bench-console.log"
        watch = Stopwatch()
        async with enter(project, ready, console, Observer()) as entered:
            mark("QEMU starts and restores the guest")
            handed_over = time.monotonic()
            await run_suite(project, ready, options, watch, entered)
            marks.append(("the guest mounts the payload", watch.begun - handed_over))
            marks.append(("the test runs", watch.ended - watch.begun))
            marks.append(("the result is written", time.monotonic() - watch.ended))
            mark("")
            marks.pop()
        mark("QEMU ends")

    asyncio.run(machine())
    return dict(marks)


if __name__ == "__main__":
    print(json.dumps(parts_of_a_run(float(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
    sys.stdout.flush()
    os._exit(0)

"""What is measured of machines without the tool around them: boots, tests, memory, parts of a run.

`python -m benchmarks.guests TIME KERNEL BINARY` prints the parts of a run that began at TIME.
"""

import time

_BEGUN = time.time()

# ruff: noqa: E402 - the time that Python took to get here is one of the figures

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
from bpfmatrix.results.model import KernelRun, TestResult
from bpfmatrix.session.guest import enter
from bpfmatrix.session.observer import Silent
from bpfmatrix.session.options import Options
from bpfmatrix.session.preparation import QEMU, Prepared, prepare
from bpfmatrix.suite import matrix
from bpfmatrix.suite.run import execute

_IMPORTED = time.time()
_BOOT_LIMIT_SECONDS = 120


class Stopwatch(Silent):
    """A listener that takes note of when the tests began, and when they ended."""

    def __init__(self) -> None:
        self.begun = self.ended = 0.0

    def doing(self, kernel: str, name: str, text: str, fraction: float | None = None) -> None:
        """See Listener."""
        if name == "test" and not self.begun:
            self.begun = time.monotonic()

    def test(self, kernel: str, result: TestResult) -> None:
        """See Listener."""
        self.ended = time.monotonic()

    def finished(self, run: KernelRun) -> None:
        """See Listener."""
        if run.outcome != "passed":
            raise SystemExit(f"{run.kernel}: {run.outcome}: {run.reason}")


def bare_boot_seconds(project: Project, kernel: str, elf: bool, folder: Path) -> float:
    """Boot a kernel in a QEMU that nobody tuned, to a shell that powers off at once."""
    image, _ = kernels.provide(project.config.kernel(kernel), project.cache)
    archive = folder / "bare.cpio"
    if not archive.exists():
        program = busybox.executable("x86_64", project.cache).read_bytes()
        script = b"#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n"
        entries = [
            *(Entry.folder("bin"), Entry.file("bin/busybox", program, executable=True)),
            *(Entry.folder("dev"), Entry.file("init", script, executable=True)),
        ]
        archive.write_bytes(pack(entries))
    command = [
        *(QEMU["x86_64"], "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2"),
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


def prepared(project: Project, kernel: str, options: Options) -> Prepared:
    """Get a machine ready to be started."""
    settings = project.config.kernel(kernel)
    payload = matrix.built(project, settings.arch, options, Silent())
    return prepare(project, settings, payload, options, Silent())


def tests_seconds(project: Project, kernel: str, options: Options) -> float:
    """Return what the tests alone take in a guest that runs already: from start to exit."""

    async def once() -> float:
        ready, watch = prepared(project, kernel, options), Stopwatch()
        console = project.state / "bench-console.log"
        async with enter(project, ready, console, False, Silent()) as entered:
            await execute(project, ready, options, watch, entered)
        return watch.ended - watch.begun

    return asyncio.run(once())


def memory_bytes(project: Project, kernel: str, count: int, script: Path) -> int:
    """Return the most that so many machines took at once: the sum of proportional set sizes."""

    async def machine(ready: Prepared, number: int) -> None:
        console = project.state / f"bench-console-{number}.log"
        async with enter(project, ready, console, False, Silent()) as entered:
            # All of them at once, each with its payload mounted and a process of its own.
            started.append(number)
            while len(started) < count:
                await asyncio.sleep(0.05)
            await execute(project, ready, Options(binaries=(script,)), Silent(), entered)

    async def largest() -> int:
        ready = prepared(project, kernel, Options(binaries=(script,)))
        tasks = [asyncio.create_task(machine(ready, number)) for number in range(count)]
        found = 0
        while not all(task.done() for task in tasks):
            found = max(found, sum(map(_pss_bytes, _children())))
            await asyncio.sleep(0.1)
        await asyncio.gather(*tasks)
        return found

    started: list[int] = []
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
    """Return how long each part of a warm run takes, in seconds, in their order."""
    marks = [("Python starts", _BEGUN - begun), ("imports", _IMPORTED - _BEGUN)]
    last = time.time()

    def mark(name: str) -> None:
        nonlocal last
        now = time.time()
        marks.append((name, now - last))
        last = now

    project = Project.load()
    mark("kernels.yaml is read")
    options = Options(binaries=(binary,))
    settings = project.config.kernel(kernel)
    payload = matrix.built(project, settings.arch, options, Silent())
    mark("what is built is looked at")
    ready = prepare(project, settings, payload, options, Silent())
    mark("kernel, payload and template are looked up")

    async def machine() -> None:
        console = project.state / "bench-console.log"
        watch = Stopwatch()
        async with enter(project, ready, console, False, Silent()) as entered:
            mark("QEMU starts and restores the guest")
            handed_over = time.monotonic()
            await execute(project, ready, options, watch, entered)
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

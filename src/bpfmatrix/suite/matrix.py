"""Runs on one or several kernels: builds once, prepares each, boots them side by side.

`run` is what every front end calls. It returns the runs, in the order of the ids, and has printed
all that a person wants to see.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bpfmatrix.cli.console import Report, counted
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.payload import build
from bpfmatrix.payload.model import Payload
from bpfmatrix.report import summary
from bpfmatrix.results.model import KernelRun
from bpfmatrix.session import parallelism, result_cache
from bpfmatrix.session.observer import Listener
from bpfmatrix.session.options import Options
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.suite.run import execute, failed_to_prepare
from bpfmatrix.vm import template
from bpfmatrix.vm.machine import MachineEndedError
from bpfmatrix.vm.template import Template

__all__ = ["built", "run", "warm"]


def run(
    project: Project, ids: Sequence[str], options: Options, jobs: int | None = None
) -> list[KernelRun]:
    """Run the tests on these kernels, at most `jobs` at once (default: what the host can bear).

    BpfmatrixError where nothing could be begun; what goes wrong on one kernel is its result.
    KeyboardInterrupt passes, after all machines ended and their results were written.
    """
    kernels = [project.config.kernel(id) for id in ids]
    started = time.monotonic()
    with Report(project, ids, options.binaries) as report:
        payloads: dict[str, Payload] = {}
        for arch in dict.fromkeys(kernel.arch for kernel in kernels):
            payloads[arch] = built(project, arch, options, report)
        done: dict[str, KernelRun] = {}
        ready: list[Prepared] = []
        for kernel in kernels:
            try:
                prepared = prepare(project, kernel, payloads[kernel.arch], options, report)
            except BpfmatrixError as error:
                done[kernel.id] = failed_to_prepare(project, kernel, error, report)
                continue
            if options.cached and (known := result_cache.recall(project, prepared)):
                done[kernel.id] = known
                report.finished(known)
            else:
                ready.append(prepared)
        if ready:
            limit = jobs or parallelism.at_once(ready)
            ready = parallelism.slowest_first(project, ready)
            for result in asyncio.run(_execute_all(project, ready, options, report, limit)):
                done[result.kernel] = result
    runs = [done[id] for id in dict.fromkeys(ids)]
    if len(runs) > 1:
        report.matrix(runs, time.monotonic() - started)
    summary.write(runs)
    return runs


def warm(project: Project, ids: Sequence[str]) -> list[tuple[str, Template, bool]]:
    """Make the templates of these kernels, where there are none; the bool says which were made."""
    found = []
    options = Options()
    for kernel in map(project.config.kernel, ids):
        with Report(project, [kernel.id]) as report, TemporaryDirectory() as folder:
            payload = built(project, kernel.arch, options, report)
            prepared = prepare(project, kernel, payload, options, report)
            report.doing(kernel.id, "boot", "making the template")
            console = Path(folder) / "console.log"
            making = template.get(prepared.spec, project.cache, prepared.image.label, console)
            try:
                found.append((kernel.id, *asyncio.run(making)))
            except (template.TemplateError, MachineEndedError) as error:
                raise BpfmatrixError(f"{kernel.id}: no template could be made: {error}") from error
    return found


def built(
    project: Project, arch: str, options: Options, report: Listener, *, tests_needed: bool = True
) -> Payload:
    """Build all that runs in the guest, and say so."""

    def progress(text: str, fraction: float | None = None) -> None:
        report.doing("", "build", text, fraction)

    payload, changed = build.payload(
        *(project, arch, options.binaries, progress, options.files.root),
        tests_needed=tests_needed,
        symbols=options.core,
    )
    parts = [counted(len(payload.objects), "eBPF object")] if payload.objects else []
    parts.append(counted(len(payload.tests), "test binary", "test binaries"))
    report.step("", "build", ", ".join(parts), "built" if changed else "up to date")
    return payload


async def _execute_all(
    project: Project, ready: Sequence[Prepared], options: Options, report: Report, limit: int
) -> list[KernelRun]:
    at_once = asyncio.Semaphore(limit)

    async def one(prepared: Prepared) -> KernelRun:
        async with at_once:
            result = await execute(project, prepared, options, report)
            result_cache.remember(project, prepared, result)
            return result

    # A cancelled group waits until each machine is gone and its result written.
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(prepared)) for prepared in ready]
    return [task.result() for task in tasks]

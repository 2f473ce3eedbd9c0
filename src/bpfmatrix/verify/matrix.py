"""The eBPF programs of objects, loaded on one or several kernels, one machine for each.

`run` is what front ends call: it gives the verifications in the order of the ids, and a listener
has been told of all that happened.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.payload import ebpf, shipped
from bpfmatrix.results import verification_files
from bpfmatrix.session import parallelism
from bpfmatrix.session.options import Options
from bpfmatrix.session.preparation import Prepared, prepare
from bpfmatrix.verify.objects import ObjectFile, find
from bpfmatrix.verify.plan import Plan, Request
from bpfmatrix.verify.run import Finished, VerifyListener, execute, failed_to_prepare

__all__ = ["run"]


def run(
    project: Project,
    ids: Sequence[str],
    request: Request,
    listener: VerifyListener,
    jobs: int | None = None,
    folder: Path | None = None,
) -> list[Finished]:
    """Load everything on these kernels, at most `jobs` at once (default: what the host can bear).

    UsageError where an object is none, before anything is booted; BpfmatrixError where nothing
    could be begun. What goes wrong on one kernel is its result. `folder` is where verifications
    and logs are written (default: `.bpfmatrix/verify`).
    """
    folder = folder or verification_files.folder(project)
    kernels = [project.config.kernel(id) for id in dict.fromkeys(ids)]
    plan = Plan.make(project, _objects(project, request, listener), request)
    loaders: dict[str, Path] = {
        arch: shipped.loader(project, arch, lambda text, _=None: listener.doing("", "build", text))
        for arch in dict.fromkeys(kernel.arch for kernel in kernels)
    }
    programs = sum(len(subject.programs) for subject in plan.subjects.values())
    counts = f"{_counted(len(plan.subjects), 'eBPF object')}, {_counted(programs, 'program')}"
    listener.step("", "verify", counts, "")
    done: dict[str, Finished] = {}
    ready: list[Prepared] = []
    for kernel in kernels:
        try:
            ready.append(_prepared(project, kernel, plan, loaders[kernel.arch], request, listener))
        except BpfmatrixError as error:
            done[kernel.id] = failed_to_prepare(folder, kernel, error, listener)
    if ready:
        limit = jobs or parallelism.at_once(ready)
        for finished in asyncio.run(
            _execute_all(project, ready, plan, loaders, request, listener, limit, folder)
        ):
            done[finished.verification.kernel] = finished
    return [done[kernel.id] for kernel in kernels]


def _counted(count: int, one: str) -> str:
    return f"{count} {one}{'' if count == 1 else 's'}"


def _objects(project: Project, request: Request, listener: VerifyListener) -> list[ObjectFile]:
    built: tuple[Path, ...] = ()
    folder = project.config.payload.ebpf
    if folder is not None and (
        not request.objects or _names_one_of(project.root / folder, request)
    ):
        made = ebpf.objects(project, lambda text, _=None: listener.doing("", "build", text))
        built = made.files
    return find(project, request.objects, built)


def _names_one_of(folder: Path, request: Request) -> bool:
    """Whether an object is asked for that the project's own Makefile builds."""
    paths = (Path(os.path.normpath(Path.cwd() / pattern)) for pattern in request.objects)
    return any(path.is_relative_to(folder) for path in paths)


def _prepared(
    project: Project,
    kernel: KernelConfig,
    plan: Plan,
    loader: Path,
    request: Request,
    listener: VerifyListener,
) -> Prepared:
    options = Options(cold=request.cold)
    return prepare(project, kernel, plan.payload(loader), options, listener)


async def _execute_all(
    project: Project,
    ready: Sequence[Prepared],
    plan: Plan,
    loaders: dict[str, Path],
    request: Request,
    listener: VerifyListener,
    limit: int,
    folder: Path,
) -> list[Finished]:
    at_once = asyncio.Semaphore(limit)

    async def one(prepared: Prepared) -> Finished:
        async with at_once:
            loader = loaders[prepared.kernel.arch]
            return await execute(project, prepared, plan, loader, request, listener, folder)

    # A cancelled group waits until each machine is gone and its result written.
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(prepared)) for prepared in ready]
    return [task.result() for task in tasks]

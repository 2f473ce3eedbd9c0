"""What a sweep runs on each kernel: the parts that a project has, and the checksums of them.

A project may have tests, eBPF objects, or both.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.errors import ConfigError
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.payload import disk, ebpf
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.project_payload import project_payload
from bpfmatrix.session.workload import MatrixWorkload
from bpfmatrix.suite.options import RunOptions
from bpfmatrix.suite.workload import SuiteWorkload
from bpfmatrix.sweep.plan import Target, fingerprint
from bpfmatrix.sweep.state import Part
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.workload import VerifyWorkload

__all__ = ["Work", "Workloads", "targets", "untested", "workloads"]


@dataclass(frozen=True)
class Work:
    """What one part of a sweep does."""

    workload: MatrixWorkload[Any]
    """Its results are a `KernelRun` or a `Verification` each."""
    arches: frozenset[str]
    """The architectures on whose kernels there is something to do."""


Workloads = Mapping[Part, Work]
"""The work of each part."""


def workloads(
    project: Project, arches: Iterable[str], options: RunOptions, observer: Observer
) -> Workloads:
    """Return the work of each part that the project has; ConfigError if it has none.

    `arches` are the architectures of the kernels. There may be tests for some of them only.
    """
    found: dict[Part, Work] = {}
    arches = frozenset(arches)
    tested = {arch for arch in sorted(arches) if _has_tests(project, arch, options, observer)}
    if tested:
        found[Part.TESTS] = Work(SuiteWorkload(project, options), frozenset(tested))
    if _has_objects(project, observer):
        workload = VerifyWorkload.make(project, VerifyOptions(), observer)
        found[Part.PROGRAMS] = Work(workload, arches)
    if not found:
        raise ConfigError(
            "there is nothing to sweep: no tests and no eBPF objects",
            "Declare them under payload: or verify: in kernels.yaml.",
        )
    return found


def untested(parts: Workloads, arches: Iterable[str]) -> list[str]:
    """Return a sentence for each architecture that has no tests, while another one has some."""
    if Part.TESTS not in parts:
        return []
    missing = [arch for arch in arches if arch not in parts[Part.TESTS].arches]
    return [f"there are no tests for {arch}, and its kernels are swept without" for arch in missing]


def _has_tests(project: Project, arch: str, options: RunOptions, observer: Observer) -> bool:
    return bool(project_payload(project, arch, (), options, observer, tests_needed=False).tests)


def _has_objects(project: Project, observer: Observer) -> bool:
    """Whether there are eBPF objects: declared, or built by the project's Makefile."""
    if project.config.verify.objects:
        return True
    return bool(ebpf.objects(project, observer.progress("", "build")).files)


def targets(
    project: Project,
    images: Mapping[str, KernelImage],
    parts: Workloads,
    observer: Observer,
) -> list[Target]:
    """Return the kernels of a sweep, given their images by id, with the fingerprints of parts."""
    config = project.config
    settings = {
        Part.TESTS: config.payload.model_dump(mode="json"),
        Part.PROGRAMS: config.verify.model_dump(mode="json"),
    }
    ids: dict[tuple[Part, str], str] = {}
    for arch in dict.fromkeys(config.kernel(id).arch for id in images):
        for part, work in parts.items():
            if arch not in work.arches:
                continue
            payload = work.workload.payload(arch, observer)
            progress = observer.progress("", "build")
            ids[part, arch] = disk.image(payload, project.cache, progress).id
    found = []
    for id, image in images.items():
        kernel = config.kernel(id)
        prints = {
            part: fingerprint(kernel, ids[part, kernel.arch], settings[part])
            for part, work in parts.items()
            if kernel.arch in work.arches
        }
        found.append(Target(id, image.version, image.digest, prints))
    return found

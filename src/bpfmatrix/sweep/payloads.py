"""What a sweep runs on each kernel: the parts that a project has, and the checksums of them.

A project may have tests, eBPF objects, or both.
"""

from collections.abc import Iterable, Mapping
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

__all__ = ["Workloads", "targets", "workloads"]

Workloads = Mapping[Part, MatrixWorkload[Any]]
"""The workload of each part, whose results are a `KernelRun` or a `Verification`."""


def workloads(
    project: Project, arches: Iterable[str], options: RunOptions, observer: Observer
) -> Workloads:
    """Return the workload of each part that the project has; ConfigError if it has none."""
    found: dict[Part, MatrixWorkload[Any]] = {}
    if all(_has_tests(project, arch, options, observer) for arch in arches):
        found[Part.TESTS] = SuiteWorkload(project, options)
    if _has_objects(project, observer):
        found[Part.PROGRAMS] = VerifyWorkload.make(project, VerifyOptions(), observer)
    if not found:
        raise ConfigError(
            "there is nothing to sweep: no tests and no eBPF objects",
            "Declare them under payload: or verify: in kernels.yaml.",
        )
    return found


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
        for part, workload in parts.items():
            payload = workload.payload(arch, observer)
            progress = observer.progress("", "build")
            ids[part, arch] = disk.image(payload, project.cache, progress).id
    found = []
    for id, image in images.items():
        kernel = config.kernel(id)
        prints = {
            part: fingerprint(kernel, ids[part, kernel.arch], settings[part]) for part in parts
        }
        found.append(Target(id, image.version, image.digest, prints))
    return found

"""The payload that a project declares in kernels.yaml, built for one architecture."""

from collections.abc import Sequence
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.host.text import counted
from bpfmatrix.payload import build
from bpfmatrix.payload.model import Payload
from bpfmatrix.session.host_files import root_of_tests
from bpfmatrix.session.observer import Observer
from bpfmatrix.session.options import SessionOptions

__all__ = ["project_payload"]


def project_payload(
    project: Project,
    arch: str,
    binaries: Sequence[Path],
    options: SessionOptions,
    observer: Observer,
    *,
    tests_needed: bool = True,
) -> Payload:
    """Build what runs in a project's guests, and report it as the step `build`.

    `binaries` are executables to run in place of the declared ones. BpfmatrixError if something
    can't be built, or if there is no test although `tests_needed`.
    """
    payload, changed = build.payload(
        project,
        arch,
        tuple(binaries),
        observer.progress("", "build"),
        root_of_tests(options.files, arch, project.cache, observer.progress("", "files")),
        tests_needed=tests_needed,
        symbols=options.core,
    )
    parts = [counted(len(payload.objects), "eBPF object")] if payload.objects else []
    parts.append(counted(len(payload.tests), "test binary", "test binaries"))
    observer.step("", "build", ", ".join(parts), "built" if changed else "up to date")
    return payload

"""Results that are still true: what passed, and all that shaped it is the same.

A run is known by a fingerprint of everything that could change its outcome. `remember` keeps a run
that passed; `recall` gives it back. Failures are never kept: one may have been an accident, and to
run again is what people do about it.
"""

import contextlib
import dataclasses
import shutil
from pathlib import Path

from bpfmatrix import __version__
from bpfmatrix.config.project import Project
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.installation import PACKAGE
from bpfmatrix.results import model
from bpfmatrix.results.expectations import Expected
from bpfmatrix.results.model import KernelRun, Outcome
from bpfmatrix.session.preparation import Prepared
from bpfmatrix.vm import template

__all__ = ["recall", "remember"]

_KEPT_FILES = 200


def fingerprint(prepared: Prepared) -> str:
    """Return a checksum of all that shapes a run: machine, payload, arguments, limits, tool."""
    expected = Expected.of(prepared.kernel.expect, prepared.image.version)
    known = (
        prepared.kernel.id,
        # The kernel, the initramfs, QEMU and all of its options.
        template.key(prepared.spec),
        prepared.payload_id,
        [(test.name, command.argv, command.limit_seconds) for test, command in prepared.tests],
        sorted(prepared.env.items()),
        prepared.kernel.timeout.model_dump(),
        # One that ends, or is taken back, changes what passes.
        [expectation.model_dump(mode="json") for expectation in expected.active],
        __version__,
        # In a checkout of bpfmatrix itself, the version does not change with the code.
        [(path.name, path.stat().st_mtime_ns) for path in sorted(PACKAGE.rglob("*.py"))],
    )
    return key_of(known)[:32]


def recall(project: Project, prepared: Prepared) -> KernelRun | None:
    """Return an earlier run that passed and would pass again, marked as cached; else None.

    It is the kernel's last result then.
    """
    if _sees_more(prepared):
        return None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        run = model.read(_path(project, prepared))
        if run.outcome is Outcome.PASSED:
            return _as_last_result(project, dataclasses.replace(run, cached=True))
    return None


def _as_last_result(project: Project, run: KernelRun) -> KernelRun:
    """Let what is recorded of the kernel's last run, which may have been another, be this one."""
    path, logs = project.results / f"{run.kernel}.json", project.results / run.kernel
    last = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        last = dataclasses.replace(model.read(path), cached=True)
    if last != run:
        # The logs there are not of this run.
        shutil.rmtree(logs, ignore_errors=True)
        run = dataclasses.replace(run, console="", logs=(), cores=())
    model.write(run, path)
    return run


def remember(project: Project, prepared: Prepared, run: KernelRun) -> None:
    """Keep a run for `recall`, if it passed."""
    if run.outcome is not Outcome.PASSED or _sees_more(prepared):
        return
    path = _path(project, prepared)
    model.write(run, path)
    newest = sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    for old in newest[_KEPT_FILES:]:
        old.unlink(missing_ok=True)


def _sees_more(prepared: Prepared) -> bool:
    """Whether the tests see what may be another thing next time: the host's files, or a network."""
    return bool(prepared.spec.folders) or prepared.spec.network


def _path(project: Project, prepared: Prepared) -> Path:
    return project.state / "passed" / f"{fingerprint(prepared)}.json"

"""The cache of results: runs that passed, and need not be repeated while nothing changes.

The key of a run is its fingerprint (`bpfmatrix.suite.fingerprint`). `remember` keeps a run that
passed, and `recall` returns it. A failure is never kept, because people repeat a failed run to see
whether it fails again.
"""

import contextlib
import dataclasses
import shutil
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.host import records
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import Outcome

__all__ = ["recall", "remember"]

_KEPT_FILES = 200


def recall(project: Project, fingerprint: str) -> KernelRun | None:
    """Return the run with this fingerprint, marked as cached; None if the cache has none.

    One that is damaged counts as none.

    The run also becomes the kernel's last result.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = records.read(_path(project, fingerprint)) or {}
        run = files.parse_run(kept["run"], "the cache of results")
        if run.outcome is Outcome.PASSED:
            return _as_last_result(project, dataclasses.replace(run, cached=True))
    return None


def _as_last_result(project: Project, run: KernelRun) -> KernelRun:
    """Write this run as the kernel's last result, which may have been another run."""
    path, logs = project.results / f"{run.kernel}.json", project.results / run.kernel
    last = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        last = dataclasses.replace(files.read_earlier(path), cached=True)
    aside = files.earlier_folder(path) / "logs"
    if last != run:
        # The logs in this folder belong to the other run.
        shutil.rmtree(logs, ignore_errors=True)
        run = dataclasses.replace(run, console="", logs=(), cores=())
    elif aside.exists():
        shutil.rmtree(logs, ignore_errors=True)
        aside.rename(logs)
    files.write(run, path)
    return run


def remember(project: Project, fingerprint: str, run: KernelRun) -> None:
    """Keep a run for `recall` if it passed; if it can't be kept, it is run again."""
    if run.outcome is not Outcome.PASSED:
        return
    path = _path(project, fingerprint)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(path, {"run": dataclasses.asdict(run)})
        newest = sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in newest[_KEPT_FILES:]:
            old.unlink(missing_ok=True)


def _path(project: Project, fingerprint: str) -> Path:
    return project.state / "passed" / f"{fingerprint}.json"

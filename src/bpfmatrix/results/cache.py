"""The cache of results: what passed, and need not be repeated while nothing changes.

The key of a result is its fingerprint (`bpfmatrix.session.fingerprint`). `remember` keeps the
result of tests, or of a verification, that passed, and `recall` returns it. A failure is never
kept, because people repeat a failed run to see whether it fails again.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from bpfmatrix.config.project import Project
from bpfmatrix.host import records
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import Verification

__all__ = ["RUNS", "VERIFICATIONS", "KeptKind", "recall", "remember"]

_KEPT_FILES = 400

Run = TypeVar("Run", KernelRun, Verification)


@dataclass(frozen=True)
class KeptKind(Generic[Run]):
    """One of the two kinds of results that are kept."""

    key: str
    """The key of the record that has the result."""
    folder: Callable[[Project], Path]
    """The folder of the last results."""
    parse: Callable[[Any, str], Run]
    read_earlier: Callable[[Path], Run]
    kept: Collection[Outcome]
    """The outcomes with which a result is kept."""


RUNS = KeptKind[KernelRun](
    "run", lambda project: project.results, files.parse_run, files.read_earlier, (Outcome.PASSED,)
)
VERIFICATIONS = KeptKind[Verification](
    "verification",
    files.verification_folder,
    files.parse_verification,
    files.read_earlier_verification,
    FINE,
)


def recall(project: Project, kind: KeptKind[Run], fingerprint: str) -> Run | None:
    """Return the result with this fingerprint, marked as cached; None if the cache has none.

    One that is damaged counts as none. The result also becomes the kernel's last result.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = records.read(_path(project, fingerprint)) or {}
        run = kind.parse(kept[kind.key], "the cache of results")
        if run.outcome in kind.kept:
            return _as_last_result(project, kind, dataclasses.replace(run, cached=True))
    return None


def _as_last_result(project: Project, kind: KeptKind[Run], run: Run) -> Run:
    """Write this result as the kernel's last one, which may have been that of another run."""
    folder = kind.folder(project)
    path, logs = folder / f"{run.kernel}.json", folder / run.kernel
    last = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        last = dataclasses.replace(kind.read_earlier(path), cached=True)
    aside = files.earlier_folder(path) / "logs"
    if last != run:
        # The logs in this folder belong to the other run.
        shutil.rmtree(logs, ignore_errors=True)
        run = run.without_files()
    elif aside.exists():
        shutil.rmtree(logs, ignore_errors=True)
        aside.rename(logs)
    files.write(run, path)
    return run


def remember(project: Project, kind: KeptKind[Run], fingerprint: str, run: Run) -> None:
    """Keep a result for `recall` if it is fine; if it can't be kept, the kernel is run again."""
    if run.outcome not in kind.kept:
        return
    path = _path(project, fingerprint)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write(path, {kind.key: dataclasses.asdict(run)})
        newest = sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in newest[_KEPT_FILES:]:
            old.unlink(missing_ok=True)


def _path(project: Project, fingerprint: str) -> Path:
    return project.state / "passed" / f"{fingerprint}.json"

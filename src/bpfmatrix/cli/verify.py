"""What the task `verify` does: run, show, save, compare; and the exit status that comes of it."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.cli.verify_output import VerifyReport, print_annotated
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.report import summary
from bpfmatrix.results import verification_files
from bpfmatrix.results.model import Outcome
from bpfmatrix.results.verification import ProgramResult, Verification
from bpfmatrix.verify import compare, matrix, source
from bpfmatrix.verify.plan import Request
from bpfmatrix.verify.run import Finished

_ANNOTATE_SECONDS = 300.0
# The log of a million instructions may be some 400 MB, which the loader holds three times.
_ANNOTATE_BYTES = 2 << 30

__all__ = ["Wanted", "annotate", "exit_status", "verify"]


@dataclass(frozen=True)
class Wanted:
    """What is to come of the results."""

    jobs: int | None = None
    statistics: bool = False
    """Whether to show them for each kernel, also where there are several."""
    save: Path | None = None
    against: Path | None = None
    threshold: float = 0.1
    as_json: bool = False


def verify(project: Project, ids: Sequence[str], request: Request, wanted: Wanted) -> int:
    """Verify on these kernels, print what came of it, and return the exit status."""
    base = _base(wanted.against) if wanted.against else None
    with VerifyReport(project, ids, to_stderr=wanted.as_json) as report:
        finished = matrix.run(project, ids, request, report, wanted.jobs)
    found = [one.verification for one in finished]
    summary.write(found)
    if wanted.as_json:
        print(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
    report.show(found, wanted.statistics)
    report.costs(compare.costs(found))
    if wanted.save:
        _save(found, wanted.save)
    if base is None:
        return exit_status(found)
    changes = compare.against(base, found, wanted.threshold)
    report.changes(str(wanted.against), changes)
    ran = all(one.outcome in (*_FINE, Outcome.FAILED) for one in found)
    return 0 if ran and not any(change.regression for change in changes) else 1


_FINE = (Outcome.PASSED, Outcome.SKIPPED)


def exit_status(verifications: Iterable[Verification]) -> int:
    """Return 0 if something loaded and nothing failed that should not; else 1.

    A kernel that everything was skipped on, as declared, is fine beside one that passed.
    """
    outcomes = [one.outcome for one in verifications]
    fine = Outcome.PASSED in outcomes and all(outcome in _FINE for outcome in outcomes)
    return 0 if fine else 1


def _base(path: Path) -> list[Verification]:
    try:
        return verification_files.read_saved(path)
    except OSError as error:
        raise UsageError(
            f"--against {path}: {error.strerror or error}", "Write it with --save first."
        ) from error
    except ValueError as error:
        raise UsageError(f"--against {path}: {error}", "Write it with --save.") from error


def _save(found: Sequence[Verification], path: Path) -> None:
    try:
        verification_files.save(found, path)
    except OSError as error:
        raise BpfmatrixError(f"--save {path}: {error.strerror or error}") from error


def annotate(project: Project, id: str, request: Request, program: str) -> int:
    """Load one program on one kernel, and print its source with what each line costs there."""
    # Writing the log takes much longer than verifying.
    limit = request.limit_seconds or max(project.config.verify.limit, _ANNOTATE_SECONDS)
    request = dataclasses.replace(request, only=(program,), full_log=True, limit_seconds=limit)
    folder = project.state / "annotated"
    with VerifyReport(project, [id], to_stderr=True) as report:
        (finished,) = matrix.run(project, [id], request, report, folder=folder)
        larger = _with_memory(project, id)
        if larger and any("memory" in reason for reason in finished.left_out.values()):
            report.step(id, "annotate", "a log of this size needs more memory", "2G")
            (finished,) = matrix.run(larger, [id], request, report, folder=folder)
    one = finished.verification
    shown = [result for result in one.programs if _print_annotated(project, finished, result)]
    if shown:
        return 0
    report.show([one])
    for reason in finished.left_out.values():
        raise BpfmatrixError(
            f"{program} can't be annotated: {reason}",
            "Raise qemu.memory in kernels.yaml, or the --limit, whichever it is.",
        )
    return 1


def _with_memory(project: Project, id: str) -> Project | None:
    """Return the project with more memory for a kernel's machine; None if it has that already."""
    if project.config.kernel(id).qemu.memory >= _ANNOTATE_BYTES:
        return None
    entry = project.config.kernels[id]
    qemu = entry.qemu.model_copy(update={"memory": _ANNOTATE_BYTES})
    kernels = {**project.config.kernels, id: entry.model_copy(update={"qemu": qemu})}
    config = project.config.model_copy(update={"kernels": kernels})
    return dataclasses.replace(project, config=config)


def _print_annotated(project: Project, finished: Finished, result: ProgramResult) -> bool:
    """Print one program's source, if there is a log of it; tell whether there is."""
    path = project.root / result.log if result.log else None
    if path is None or not path.is_file():
        return False
    one, lines = finished.verification, finished.lines.get((result.object, result.program), [])
    folder = (project.root / result.object).parent
    count = result.statistics.program_instructions
    with path.open(encoding="utf-8", errors="replace") as log:
        found = source.annotate(log, lines, count, (project.root, folder, folder.parent))
    print_annotated(f"{result.program} of {result.object}", one.version or one.kernel, found)
    if not lines:
        print("its object has no line information: compile it with -g")
    if result.outcome is not Outcome.PASSED:
        print(f"\nit does not load: {result.reason}")
    print(f"\nfull verifier log  {result.log}")
    return True

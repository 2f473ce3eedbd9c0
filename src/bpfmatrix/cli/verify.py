"""What the task `verify` does: load the objects, and print, save and compare the results."""

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.cli.annotated_output import print_annotated
from bpfmatrix.cli.console import say, say_json
from bpfmatrix.cli.verify_base import Base, place_to_save, read_base, read_results, save
from bpfmatrix.cli.verify_csv import as_csv
from bpfmatrix.cli.verify_output import VerifyConsole
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.whole_file import write_whole
from bpfmatrix.report import summary
from bpfmatrix.report.again import PLAIN, Again
from bpfmatrix.report.changes import render as render_changes
from bpfmatrix.results import files
from bpfmatrix.results.kernel_label import label_of
from bpfmatrix.results.outcome import FINE, Outcome
from bpfmatrix.results.verification import (
    Code,
    ProgramResult,
    Verification,
    exit_status,
    verdict,
)
from bpfmatrix.session.pipeline import run_side_by_side
from bpfmatrix.session.workload import asked_for
from bpfmatrix.verify import compare, source_lines
from bpfmatrix.verify.baseline import BaselineName, Baselines
from bpfmatrix.verify.options import VerifyOptions
from bpfmatrix.verify.selection import Names, Selection, may_load, to_load
from bpfmatrix.verify.workload import Details, VerifyWorkload, unprepared

_ANNOTATE_SECONDS = 300.0
# The log of a million instructions may have 400 MB, of which the loader holds three copies.
_ANNOTATE_BYTES = 2 << 30

__all__ = ["OutputOptions", "annotate", "replay", "verify"]


@dataclass(frozen=True)
class OutputOptions:
    """What a user wants to be done with the results of a verification."""

    jobs: int | None = None
    statistics: bool = False
    """Whether to print the statistics of each kernel even if there are several kernels."""
    save: Path | BaselineName | None = None
    push: bool = False
    """Whether to push the baseline that `save` names."""
    against: Path | BaselineName | None = None
    """Saved results to compare with. The exit status is then that of the comparison."""
    changes: Path | None = None
    """The file for the comparison as Markdown."""
    threshold: float = 0.1
    """The growth of a program's cost from which on it is a regression."""
    as_json: bool = False
    csv: str | None = None
    """The file for the results as CSV, or `-` for standard output."""
    selection: Selection = field(default_factory=Selection)
    """What is shown, and written as CSV."""
    raw: bool = False
    """Whether what kernels and objects say is printed as it is: see `SafeConsole`."""


def verify(
    project: Project,
    ids: Sequence[str],
    options: VerifyOptions,
    output: OutputOptions,
    again: Again = PLAIN,
) -> int:
    """Verify on these kernels, print the results, and return the exit status.

    `again` is how it was started, for the commands that messages name.

    On KeyboardInterrupt, what is known is printed, compared, and written into a file of `--save`,
    but not kept as a baseline, before it is raised again.
    """
    place = place_to_save(project, output.save, output.push)
    base = read_base(project, output.against, ids) if output.against else None
    if base:  # what is not asked for now is not missing
        asked = [one for one in base.verifications if one.kernel in ids]
        base = dataclasses.replace(base, verifications=asked)
    kernels = [project.config.kernel(id) for id in ids]
    console = VerifyConsole(
        project, ids, again, stderr=output.as_json or output.csv == "-", raw=output.raw
    )
    interrupted: KeyboardInterrupt | None = None
    try:
        with (
            # From here on, as the objects may not build.
            asked_for(files.verification_folder(project), kernels, unprepared),
            console,
        ):
            archs = {kernel.arch for kernel in kernels}
            workload = VerifyWorkload.make(project, options, console, archs=archs)
            console.expect(workload.programs)
            found = run_side_by_side(project, ids, workload, console, output.jobs)
    except KeyboardInterrupt as error:
        found, interrupted = _kept(project, ids), error
        if not any(one.programs for one in found):
            raise
    summary.write(found)
    status = _output(found, output, console, base)
    if place and not (interrupted and isinstance(place, Baselines)):
        save(found, place, output.push)
    if interrupted:
        raise interrupted
    return status


def replay(
    project: Project, paths: Sequence[Path], names: Sequence[Names], output: OutputOptions
) -> int:
    """Print the results in these files as if the programs had been loaded now."""
    place = place_to_save(project, output.save, output.push)
    found = [_chosen(one, names) for path in paths for one in read_results(path, "--replay")]
    ids = [one.kernel for one in found]
    base = read_base(project, output.against, ids) if output.against else None
    console = VerifyConsole(
        project, ids, stderr=output.as_json or output.csv == "-", raw=output.raw
    )
    for one in found:
        console.finished(one)
    status = _output(found, output, console, base)
    if place:
        save(found, place, output.push)
    return status


def _chosen(one: Verification, names: Sequence[Names]) -> Verification:
    """Return the results of the programs that filters choose, as if only they had been loaded."""
    if not names:
        return one
    programs = tuple(p for p in one.programs if to_load(names, p.object, p.program))
    refused = tuple(each for each in one.refused if may_load(names, each.object))
    one = dataclasses.replace(one, programs=programs, refused=refused)
    if one.outcome is not Outcome.FAILED or not programs or one.warnings:
        return one
    outcome, reason = verdict(programs)
    return dataclasses.replace(one, outcome=outcome, reason=reason)


def _kept(project: Project, ids: Sequence[str]) -> list[Verification]:
    """Return the results that a run left behind which was interrupted."""
    found = []
    for id in dict.fromkeys(ids):
        # A result that can't be read could not be written either.
        with contextlib.suppress(OSError, ValueError):
            found.append(files.read_verification(files.verification_path(project, id)))
    return found


def _output(
    found: Sequence[Verification],
    output: OutputOptions,
    console: VerifyConsole,
    base: Base | None,
) -> int:
    """Print and compare the results; return the exit status."""
    if output.as_json:
        say_json([dataclasses.asdict(one) for one in found])
    if output.csv:
        _write_csv(as_csv(found, output.selection), output.csv)
    console.show(found, output.statistics, output.selection)
    if not output.selection:
        console.costs(compare.costs(found))
    if base is None:
        return exit_status(found)
    changes = compare.against(base.verifications, found, output.threshold)
    console.changes(base.title, changes)
    if output.changes:
        _write("changes", output.changes, render_changes(base.title, changes))
    ran = all(one.outcome in FINE or _failed_by_programs(one) for one in found)
    if not ran or any(change.regression for change in changes):
        return 1
    return 2 if any(one.refused for one in found) else 0


def _failed_by_programs(one: Verification) -> bool:
    """Whether a kernel failed for its programs alone, and not for an oops or a warning."""
    died = any(result.code is Code.KERNEL_DIED for result in one.programs)
    return one.outcome is Outcome.FAILED and verdict(one.programs)[0] is Outcome.FAILED and not died


def _write_csv(text: str, path: str) -> None:
    if path == "-":
        print(text, end="")
    else:
        _write("csv", Path(path), text)


def _write(option: str, path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise BpfmatrixError(f"--{option} {path}: {error.strerror or error}") from error


def annotate(project: Project, id: str, options: VerifyOptions, program: str) -> int:
    """Load one program on one kernel, and print its source with what each line costs there.

    The exit status is 0 if the source could be printed, also of a program that does not load.
    """
    # Writing the log takes much longer than verifying.
    limit = options.limit_seconds or max(project.config.verify.limit, _ANNOTATE_SECONDS)
    options = dataclasses.replace(
        options, only=(program,), full_log=True, limit_seconds=limit, first_loader_only=True
    )
    with VerifyConsole(project, [id], stderr=True) as console:
        one, details = _verified(project, id, options, console)
        larger = _with_memory(project, id)
        if larger and any("memory" in reason for reason in details.left_out.values()):
            console.step(id, "annotate", "a log of this size needs more memory", "2G")
            one, details = _verified(larger, id, options, console)
    shown = [result for result in one.programs if _print_annotated(project, one, details, result)]
    if shown:
        return 0
    console.show([one])
    for reason in details.left_out.values():
        raise BpfmatrixError(
            f"{program} can't be annotated: {reason}",
            "Raise qemu.memory in kernels.yaml, or --limit, whichever the reason names.",
        )
    return 1


def _verified(
    project: Project, id: str, options: VerifyOptions, console: VerifyConsole
) -> tuple[Verification, Details]:
    folder = project.state / "annotated"
    archs = (project.config.kernel(id).arch,)
    workload = VerifyWorkload.make(project, options, console, folder, archs)
    (verification,) = run_side_by_side(project, [id], workload, console)
    return verification, workload.details[id]


def _with_memory(project: Project, id: str) -> Project | None:
    """Return the project with more memory for a kernel's machine; None if it has enough already."""
    if project.config.kernel(id).qemu.memory >= _ANNOTATE_BYTES:
        return None
    plain = project.config.kernel(id).plain.id
    entry = project.config.kernels[plain]
    qemu = entry.qemu.model_copy(update={"memory": _ANNOTATE_BYTES})
    kernels = {**project.config.kernels, plain: entry.model_copy(update={"qemu": qemu})}
    config = project.config.model_copy(update={"kernels": kernels})
    return dataclasses.replace(project, config=config)


def _print_annotated(
    project: Project, one: Verification, details: Details, result: ProgramResult
) -> bool:
    """Print one program's source if there is a log of the program; return whether there is."""
    path = project.root / result.log if result.log else None
    if path is None or not path.is_file():
        return False
    lines = details.lines.get(result.key, [])
    folder = (project.root / result.object).parent
    count = result.statistics.program_instructions
    with path.open(encoding="utf-8", errors="replace") as log:
        found = source_lines.annotate(log, lines, count, (project.root, folder, folder.parent))
    print_annotated(f"{result.program} of {result.object}", label_of(one), found)
    if not lines:
        say("the object file has no line information: compile it with -g")
    if result.outcome is not Outcome.PASSED:
        say(f"\nthe program does not load: {result.reason}")
    say(f"\nfull verifier log  {result.log}")
    return True

"""What the task `profile-python` does: record, symbolize, print the hottest lines, draw."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bpfmatrix.cli.console import LiveConsole, say
from bpfmatrix.cli.logs import SafeWriter
from bpfmatrix.cli.profile_output import print_profile
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host.whole_file import check_writable
from bpfmatrix.profile import outputs
from bpfmatrix.profile.script import ScriptRequest
from bpfmatrix.profile.stacks import Stack
from bpfmatrix.profile.symbolization import symbolize
from bpfmatrix.profile.workload import ProfileOptions, ProfileWorkload
from bpfmatrix.session.pipeline import run_one

__all__ = ["profile", "write_files"]


def profile(
    project: Project,
    kernel: str,
    request: ScriptRequest,
    options: ProfileOptions,
    written: Sequence[tuple[Path, str]] = (),
) -> int:
    """Profile a script on a kernel, print the result, and return the exit status.

    `written` has the files to write, each with the suffix of its format (`profile.outputs`). The
    status is 1 if the script failed or could not be recorded to its end.
    """
    _check_writable(path for path, _ in written)
    safe = SafeWriter(sys.stdout)

    with LiveConsole([kernel]) as console:
        workload = ProfileWorkload(project, request, options, lambda text: safe(text.encode()))
        recording = run_one(project, kernel, workload, console)
        safe.close()
        console.doing(kernel, "lines", "of the samples")
        resolved = symbolize(recording, workload.script, project.cache)
    print_profile(project, recording, resolved)
    say(f"samples       {project.relative(recording.samples)}")
    title = f"{request.name} on {kernel}, CPython {recording.summary.get('python', '?')}"
    write_files([*resolved.stacks, *resolved.lost], title, written)
    return 1 if recording.summary.get("status") or recording.trouble else 0


def _check_writable(paths: Iterable[Path]) -> None:
    """UsageError if files can't be written: better than after a long run."""
    failed = []
    for path in paths:
        try:
            check_writable(path)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
    if failed:
        raise UsageError("; ".join(failed), _ADVICE)


_ADVICE = "Name files in a folder that you can write to."


def write_files(stacks: Sequence[Stack], title: str, files: Iterable[tuple[Path, str]]) -> None:
    """Write files in the formats of their suffixes, and print their names.

    BpfmatrixError names those that could not be written. The others are written all the same.
    """
    failed = []
    for path, suffix in files:
        try:
            outputs.write(stacks, title, path, suffix)
        except OSError as error:
            failed.append(f"{path}: {error.strerror}")
        else:
            say(f"{outputs.name_of(suffix):<12}  {path}")
    if failed:
        raise BpfmatrixError("; ".join(failed), _ADVICE)

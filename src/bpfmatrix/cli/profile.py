"""What the task `profile-python` does: record, symbolize, print the hottest lines, draw."""

import sys
from collections.abc import Sequence
from pathlib import Path

from bpfmatrix.cli.console import LiveConsole, say
from bpfmatrix.cli.logs import SafeWriter
from bpfmatrix.cli.profile_output import print_profile
from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.profile import outputs
from bpfmatrix.profile.script import ScriptRequest
from bpfmatrix.profile.symbolization import symbolize
from bpfmatrix.profile.workload import ProfileOptions, ProfileWorkload
from bpfmatrix.session.pipeline import run_one

__all__ = ["profile"]


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
    for path, suffix in written:
        try:
            outputs.write([*resolved.stacks, *resolved.lost], title, path, suffix)
        except OSError as error:
            raise BpfmatrixError(f"{path}: {error.strerror}") from None
        say(f"{outputs.name_of(suffix):<12}  {path}")
    return 1 if recording.summary.get("status") or recording.trouble else 0

"""The task `profile-python`: where a Python script spends its time, on a kernel."""

from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from bpfmatrix.commandline import options
from bpfmatrix.project import Project
from bpfmatrix.tasks.common import behind_dashes, bpfmatrix_task

__all__ = ["profile_python"]


@bpfmatrix_task(positional=["script"])
def profile_python(
    c: Context,
    script: str,
    kernel: str,
    flamegraph: str = "",
    timeout: str | None = None,
    cold: bool = False,
) -> None:
    """Run a Python script on a kernel, sample it by eBPF, and print its hottest lines.

    Words behind -- go to the script.
    """
    from bpfmatrix.profile import command  # noqa: PLC0415 - `invoke -l` stays fast

    asked = options(None, (), timeout, (), cold)
    wanted = command.Wanted(Path(flamegraph) if flamegraph else None)
    status = command.profile(Project.load(), kernel, Path(script), behind_dashes(), asked, wanted)
    if status:
        raise Exit(code=status)

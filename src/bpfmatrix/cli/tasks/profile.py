"""The task `profile-python`: where a Python script spends its time, on a kernel."""

from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit

from bpfmatrix.cli.options import duration
from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.config.project import Project

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
    from bpfmatrix.cli import profile  # noqa: PLC0415 - `invoke -l` stays fast
    from bpfmatrix.profile.workload import ProfileOptions  # noqa: PLC0415

    limit = None if timeout is None else duration("--timeout", timeout)
    options = ProfileOptions(cold=cold, limit_seconds=limit)
    status = profile.profile(
        *(Project.load(), kernel, Path(script), behind_dashes(), options),
        Path(flamegraph) if flamegraph else None,
    )
    if status:
        raise Exit(code=status)

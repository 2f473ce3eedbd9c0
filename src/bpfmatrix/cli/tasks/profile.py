"""The task `profile-python`: where a Python script spends its time, on a kernel."""

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["profile_python"]


@option_task(
    options.SCRIPT,
    options.ONE_KERNEL,
    options.FLAMEGRAPH,
    options.TIMEOUT.with_help("The time limit of the script, such as 30s or 2m."),
    options.COLD,
)
def profile_python(values: Values) -> int:
    """Run a Python script on a kernel, sample it by eBPF, and print its hottest lines.

    Words after -- are arguments of the script.
    """
    from bpfmatrix.cli import profile
    from bpfmatrix.config.project import Project
    from bpfmatrix.profile.workload import ProfileOptions

    limit = values[options.TIMEOUT]
    return profile.profile(
        Project.load(),
        values[options.ONE_KERNEL],
        values[options.SCRIPT],
        values.arguments,
        ProfileOptions(cold=values[options.COLD], limit_seconds=limit),
        values[options.FLAMEGRAPH],
    )

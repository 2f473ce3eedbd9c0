"""The task `profile-python`: where a Python script spends its time, on a kernel."""

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["profile_python"]


@option_task(
    options.SCRIPT,
    options.MODULE,
    options.ONE_KERNEL,
    options.PYTHON,
    options.PYTHON_ARGS,
    options.RATE,
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
    from bpfmatrix.profile.script import ScriptRequest
    from bpfmatrix.profile.workload import ProfileOptions

    request = ScriptRequest(
        path=values[options.SCRIPT],
        module=values[options.MODULE] or "",
        arguments=values.arguments,
        flags=values[options.PYTHON_ARGS],
        python=values[options.PYTHON],
    )
    request.check()
    limit = values[options.TIMEOUT]
    rate = values[options.RATE] or ProfileOptions.rate
    return profile.profile(
        Project.load(),
        values[options.ONE_KERNEL],
        request,
        ProfileOptions(cold=values[options.COLD], limit_seconds=limit, rate=rate),
        values[options.FLAMEGRAPH],
    )

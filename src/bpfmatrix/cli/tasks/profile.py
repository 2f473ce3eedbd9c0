"""The task `profile-python`: where a Python script spends its time, on a kernel."""

from collections.abc import Iterable
from pathlib import Path

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import UsageError

__all__ = ["profile_python"]


@option_task(
    options.SCRIPT,
    options.MODULE,
    options.ONE_KERNEL,
    options.PYTHON,
    options.PYTHON_ARGS,
    options.RATE,
    options.PROFILES,
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
    from bpfmatrix.profile import outputs
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
    written = _with_formats(values[options.PROFILES])
    if flame_graph := values[options.FLAMEGRAPH]:
        written.append((flame_graph, outputs.FLAME_GRAPH))
    written = outputs.distinct(written)
    return profile.profile(
        Project.load(),
        values[options.ONE_KERNEL],
        request,
        ProfileOptions(cold=values[options.COLD], limit_seconds=limit, rate=rate),
        written,
    )


def _with_formats(paths: Iterable[Path]) -> list[tuple[Path, str]]:
    """Return the files with the suffixes of their formats; UsageError if a name has none."""
    from bpfmatrix.profile import outputs

    found = []
    for path in paths:
        try:
            found.append((path, outputs.suffix_of(path)))
        except ValueError as error:
            raise UsageError(f"--output {path}: {error}") from None
    return found

"""The tasks that run the tests: `run`, `matrix`, `pre-push`, `watch`."""

from typing import TYPE_CHECKING

from bpfmatrix.cli import options
from bpfmatrix.cli.again import again_of
from bpfmatrix.cli.kernel_choice import one_kernel, several_kernels, with_profiles
from bpfmatrix.cli.run_choice import chosen
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values, run_options

if TYPE_CHECKING:
    from bpfmatrix.config.project import Project

__all__ = ["matrix", "pre_push", "run", "watch"]


take_words("run", options.KERNEL)


@option_task(
    options.KERNEL,
    options.IMAGE,
    options.ONLY,
    *options.TESTS,
    *options.HOST_FILES,
    *options.PRIVILEGES,
    options.PROFILE,
    options.CORE,
    options.DUMP,
    options.COLD,
    options.RAW,
)
def run(values: Values) -> int:
    """Load and test the eBPF on one kernel. Words after -- are arguments of the test binaries."""
    project, id = one_kernel(values)
    return _run_on(project, with_profiles(project.config, [id], values), values)


@option_task(
    *options.SEVERAL_KERNELS,
    options.ONLY,
    *options.TESTS,
    *options.HOST_FILES,
    *options.PRIVILEGES,
    options.PROFILE,
    options.CORE,
    options.DUMP,
    options.COLD,
    options.RAW,
)
def matrix(values: Values) -> int:
    """Load and test the eBPF on many kernels, side by side, in one table."""
    from bpfmatrix.config.project import Project

    project = Project.load()
    project, ids = several_kernels(project, values, project.config.matrix_ids)
    return _run_on(project, ids, values)


@option_task(
    *options.SEVERAL_KERNELS,
    options.FRESH,
    options.ONLY,
    *options.TESTS,
    *options.HOST_FILES,
    *options.PRIVILEGES,
    options.PROFILE,
    options.CORE,
    options.DUMP,
    options.COLD,
    options.RAW,
)
def pre_push(values: Values) -> int:
    """Load and test the eBPF before a push: only on kernels for which something has changed."""
    from bpfmatrix.config.project import Project
    from bpfmatrix.payload.tracked_objects import require_unchanged

    project = Project.load()
    project, ids = several_kernels(project, values, project.config.pre_push_ids)
    status = _run_on(project, ids, values, cached=not values[options.FRESH])
    require_unchanged(project.root)
    return status


def _run_on(project: "Project", ids: list[str], values: Values, *, cached: bool = False) -> int:
    from bpfmatrix.cli.run import run_chosen

    jobs, raw = values[options.JOBS], values[options.RAW]
    choice, asked = chosen(project, values), run_options(values, project, cached=cached)
    return run_chosen(project, ids, choice, asked, jobs, raw, again_of(values)).exit_status


@option_task(options.ONE_KERNEL, options.ONLY, options.RUN, options.TIMEOUT)
def watch(values: Values) -> None:
    """Load and test the eBPF on one kernel at each save of a file, until Ctrl-C."""
    from bpfmatrix.cli.errors import print_error
    from bpfmatrix.cli.run import WatchedParts
    from bpfmatrix.cli.standard_streams import stop_if_unread
    from bpfmatrix.config.project import Project
    from bpfmatrix.session.watch import watch as run_at_each_save

    project, id = Project.load(), values[options.ONE_KERNEL]
    project.config.kernel(id)  # no save would make an unknown kernel known
    choice, asked = chosen(project, values), run_options(values, project)

    def begin() -> WatchedParts:
        stop_if_unread()  # or else it would go on for ever
        return WatchedParts(project, id, choice, asked)

    run_at_each_save(project, id, begin, print_error)

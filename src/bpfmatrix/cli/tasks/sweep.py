"""The task `sweep`: what newly fails on the kernels that are new since the last sweep."""

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values, run_options

__all__ = ["sweep"]


@option_task(
    options.KERNELS.with_help(
        'Ids or patterns of the kernels to sweep, such as 6.1 or "6.*". Default: the matrix, and '
        "every series that the sources offer now."
    ),
    options.ARCH.with_help(
        "Only kernels of this architecture. Default: the matrix, and series of the default one."
    ),
    options.ALL.with_help("Also run kernels for which nothing is new."),
    options.STATE,
    options.JOBS,
    options.JSON,
    options.RAW,
)
def sweep(values: Values) -> int:
    """Run tests and verify on the kernels that are new since the last sweep; show what differs."""
    from bpfmatrix.cli import sweep
    from bpfmatrix.config.project import Project

    project = Project.load()
    options_of_sweep = sweep.SweepOptions(
        patterns=values[options.KERNELS],
        arch=values[options.ARCH],
        everything=values[options.ALL],
        state=values[options.STATE],
        jobs=values[options.JOBS],
        as_json=values[options.JSON],
        raw=values[options.RAW],
        run=run_options(values, project, cached=not values[options.ALL]),
    )
    return sweep.sweep(project, options_of_sweep)

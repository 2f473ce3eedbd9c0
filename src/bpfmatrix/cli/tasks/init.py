"""The task `init`: the first files of a project."""

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["init"]


@option_task(options.CI, options.HERE, options.DRY_RUN)
def init(values: Values) -> None:
    """Look at the project, and write its kernels.yaml, noxfile.py and tasks.py."""
    from pathlib import Path

    from bpfmatrix.cli.init import write_first_files

    write_first_files(
        Path.cwd(),
        values[options.CI],
        here=values[options.HERE],
        dry_run=values[options.DRY_RUN],
    )

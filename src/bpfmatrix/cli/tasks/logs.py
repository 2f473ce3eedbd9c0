"""The task `logs`: what the last run on a kernel printed."""

import sys

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["logs"]


@option_task(options.ONE_KERNEL, options.TEST, options.FOLLOW)
def logs(values: Values) -> None:
    """Print the console of the last run on a kernel, or the output of one of its test binaries."""
    from bpfmatrix.cli.logs import show
    from bpfmatrix.config.project import Project

    kernel, test = values[options.ONE_KERNEL], values[options.TEST] or ""
    show(Project.load(), kernel, test, sys.stdout.buffer, follow=values[options.FOLLOW])

"""The task `logs`: what the last run on a kernel printed."""

import sys

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["logs"]


@option_task(options.ONE_KERNEL, options.TEST, options.FOLLOW, options.RAW)
def logs(values: Values) -> None:
    """Print the console of the last run on a kernel, or the output of one of its test binaries."""
    from bpfmatrix.cli.logs import SafeWriter, show
    from bpfmatrix.cli.standard_streams import stop_if_unread
    from bpfmatrix.config.project import Project

    kernel, test = values[options.ONE_KERNEL], values[options.TEST] or ""
    safe = SafeWriter(sys.stdout)
    write = sys.stdout.buffer.write if values[options.RAW] else safe
    follow = values[options.FOLLOW]
    show(Project.load(), kernel, test, write, follow=follow, stop=stop_if_unread)
    safe.close()

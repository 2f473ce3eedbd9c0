"""The task `shell`: a shell, or one command, on a kernel."""

from bpfmatrix.cli import options
from bpfmatrix.cli.kernel_choice import one_kernel
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values, session_options

__all__ = ["shell"]


take_words("shell", options.KERNEL)


@option_task(options.KERNEL, options.IMAGE, *options.HOST_FILES, *options.PRIVILEGES, options.COLD)
def shell(values: Values) -> int:
    """Open a shell on a kernel, or run the command after -- there, as if it ran here."""
    from bpfmatrix.cli.shell import shell as attach

    project, id = one_kernel(values)
    return attach(project, id, values.arguments, session_options(values, project))

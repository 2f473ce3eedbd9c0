"""The task `shell`: a shell, or one command, on a kernel."""

from dataclasses import replace

from bpfmatrix.cli import options
from bpfmatrix.cli.kernel_choice import one_kernel
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values, session_options
from bpfmatrix.errors import UsageError

__all__ = ["shell"]


take_words("shell", options.KERNEL)


@option_task(
    options.KERNEL,
    options.IMAGE,
    options.TOOLS,
    *options.HOST_FILES,
    *options.PRIVILEGES,
    options.COLD,
)
def shell(values: Values) -> int:
    """Open a shell on a kernel, or run the command after -- there, as if it ran here."""
    from bpfmatrix.cli.shell import shell as attach
    from bpfmatrix.cli.shell import with_tools

    if values[options.TOOLS] and values[options.ROOTFS]:
        raise UsageError(
            "--tools brings a root file system of its own, so it can't be with --rootfs",
            "Leave one of them out.",
        )
    project, id = one_kernel(values)
    chosen = session_options(values, project)
    if values[options.TOOLS]:
        chosen = replace(chosen, files=with_tools(chosen.files))
    return attach(project, id, values.arguments, chosen)

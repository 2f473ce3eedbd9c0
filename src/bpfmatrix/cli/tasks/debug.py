"""The task `debug`: the tests on a kernel, under gdb."""

from bpfmatrix.cli import options
from bpfmatrix.cli.kernel_choice import one_kernel
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values, debug_options, run_options
from bpfmatrix.errors import UsageError

__all__ = ["debug"]


take_words("debug", options.KERNEL)


@option_task(
    options.KERNEL,
    options.IMAGE,
    options.RUN,
    options.BINARY,
    options.BREAK,
    options.BATCH,
    options.GDB_ARGS,
    options.ATTACH_LATER,
    options.PORT,
    options.JSON_PORT,
    options.VSCODE,
    options.VMLINUX,
    options.SOURCE,
    options.NAMES,
    options.COLD,
    options.ACCEL,
    *options.HOST_FILES,
    *options.PRIVILEGES,
)
def debug(values: Values) -> int:
    """Run the tests on one kernel under gdb, which stops in the verifier."""
    from bpfmatrix.cli.debug import debug as run_in_gdb

    if values[options.VSCODE] and values[options.IMAGE]:
        raise UsageError("--vscode is for a kernel of kernels.yaml", "Give it an entry there.")
    project, id = one_kernel(values)
    return run_in_gdb(project, id, run_options(values, project), debug_options(values))

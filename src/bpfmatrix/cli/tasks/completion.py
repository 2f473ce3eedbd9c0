"""The task `completion`: the script with which a shell completes command lines."""

import sys

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["completion"]


@option_task(options.SHELL)
def completion(values: Values) -> None:
    """Print the script that makes bash, zsh or fish complete commands, kernels, tests and objects.

    Load it at the start of the shell. For bash: eval "$(bpfmatrix completion bash)" in ~/.bashrc.
    """
    from bpfmatrix.cli.completion.shells import script

    sys.stdout.write(script(values[options.SHELL]))

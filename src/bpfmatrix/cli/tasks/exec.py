"""The task `exec`: one command on a kernel, for the test runners of other projects."""

from bpfmatrix.cli import options
from bpfmatrix.cli.options import OptionKind
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values

__all__ = ["exec_command"]


@option_task(*options.EXEC, name="exec")
def exec_command(values: Values) -> int:
    """Run a command on a kernel in place of a test runner, such as for `go test -exec`."""
    from bpfmatrix.exec import client

    words = []
    for option in options.EXEC:
        value = values[option]
        if option is options.CAPABILITIES and value is not None:
            value = ",".join(value) or "none"
        if option.kind is OptionKind.FLAG:
            words += [f"--{option.name}"] if value else []
        else:
            several = value if option.kind is OptionKind.REPEATED else [value]
            words += [f"--{option.name}={text}" for text in several if text is not None]
    return client.run([*words, "--", *values.arguments])

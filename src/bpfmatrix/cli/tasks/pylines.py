"""The task `pylines`: lines of Python source for what a tracer saw. The program is in support/."""

from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.front_end import command

__all__ = ["pylines"]


@option_task()
def pylines(values: Values) -> int:
    """Find the lines of Python bytecode offsets: -- index DIR -o FILE, -- resolve, -- lines."""
    from pylines.__main__ import run
    from pylines.errors import PylinesError

    try:
        run(values.arguments or ("--help",), command("pylines --"))
    except PylinesError as error:
        raise BpfmatrixError(error.what, error.advice) from None
    except SystemExit as end:
        # argparse has printed a help text, or what is wrong with the arguments.
        return int(end.code or 0)
    return 0

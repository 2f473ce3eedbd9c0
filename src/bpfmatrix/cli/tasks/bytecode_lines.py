"""The task `bytecode-lines`: lines of Python source for what a tracer saw.

The program is a distribution of its own, in `bytecode-lines/` of the repository.
"""

import sys

from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.values import Values
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.front_end import command

__all__ = ["bytecode_lines"]


@option_task()
def bytecode_lines(values: Values) -> int:
    """Find the lines of Python bytecode offsets: -- index DIR -o FILE, -- resolve, -- lines."""
    from bpfmatrix.payload import shipped

    # Before an installed distribution, which may be of another version.
    sys.path.insert(0, str(shipped.bytecode_lines()))
    from bytecode_lines.__main__ import run
    from bytecode_lines.errors import BytecodeLinesError

    try:
        run(values.arguments or ("--help",), command("bytecode-lines --"))
    except BytecodeLinesError as error:
        raise BpfmatrixError(error.what, error.advice) from None
    except SystemExit as end:
        # argparse has printed a help text, or what is wrong with the arguments.
        return int(end.code or 0)
    return 0

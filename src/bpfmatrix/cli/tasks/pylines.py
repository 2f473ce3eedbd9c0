"""The task that finds lines of Python source for what a tracer saw: pylines, in support/."""

import sys

from invoke.context import Context
from invoke.exceptions import Exit

from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.errors import BpfmatrixError

__all__ = ["pylines"]


@bpfmatrix_task()
def pylines(c: Context) -> None:
    """Find the lines of Python bytecode offsets: -- index DIR -o FILE, -- resolve, -- lines."""
    from pylines.__main__ import run  # noqa: PLC0415 - `invoke -l` stays fast
    from pylines.errors import PylinesError  # noqa: PLC0415

    try:
        run(behind_dashes() or ("--help",), "invoke pylines --")
    except PylinesError as error:
        raise BpfmatrixError(error.what, error.advice) from None
    except SystemExit as end:
        # argparse has said what is wrong with the words.
        sys.stdout.flush()
        raise Exit(code=int(end.code or 0)) from None

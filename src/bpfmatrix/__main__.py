"""The program `bpfmatrix`, or `python -m bpfmatrix`: the tasks of invoke as its commands.

It needs no tasks.py: it finds the kernels.yaml of the working directory or of a folder above it.
"""

# The part of `signal` that is written in C, which imports nothing: see `main`.
import _signal  # type: ignore[import-not-found]
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command of the command line, and end the process with its exit status."""
    # Ctrl-C ends the process while modules are imported, which would be a traceback of Python's.
    # `host.interrupts` lets a command that runs clean up. A parent may have Ctrl-C ignored.
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if sys.argv[1:2] == ["exec"] and sys.argv[2:3] not in (["--help"], ["-h"]):
        # A test runner starts this for each test, so it imports nothing that it does not need.
        from bpfmatrix.exec.client import run

        sys.exit(run(sys.argv[2:]))
    from bpfmatrix.cli.program import make_program

    make_program().run()


if __name__ == "__main__":
    main()

"""The program `bpfmatrix`, or `python -m bpfmatrix`: the tasks of invoke as its commands.

It needs no tasks.py: it finds the kernels.yaml of the working directory or of a folder above it.
"""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command of the command line, and end the process with its exit status."""
    if sys.argv[1:2] == ["exec"] and sys.argv[2:3] not in (["--help"], ["-h"]):
        # A test runner starts this for each test, so it imports nothing that it does not need.
        from bpfmatrix.exec.client import run

        sys.exit(run(sys.argv[2:]))
    from invoke.program import Program

    from bpfmatrix import __version__
    from bpfmatrix.cli.tasks import namespace

    Program(version=__version__, namespace=namespace, name="bpfmatrix", binary="bpfmatrix").run()


if __name__ == "__main__":
    main()

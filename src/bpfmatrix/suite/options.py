"""What a user asks of a run of the tests, beyond kernels.yaml.

This module is light, since `nox -l` imports it.
"""

from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.session.options import SessionOptions

__all__ = ["RunOptions"]


@dataclass(frozen=True)
class RunOptions(SessionOptions):
    """The options of a run of the tests. Paths are relative to the working directory."""

    run: str | None = None
    """A regular expression that selects the tests to run; None for all."""
    binaries: tuple[Path, ...] = ()
    """Executables to run in place of the declared ones."""
    test_seconds: float | None = None
    """The time limit of each executable, in place of timeout.test."""
    arguments: tuple[str, ...] = ()
    """Further arguments of each executable."""
    cached: bool = False
    """Use the result of an earlier run that passed, if nothing has changed since."""
    words: tuple[str, ...] = ()
    """The options of the command line that a test needs again: see `KernelRun.options`."""

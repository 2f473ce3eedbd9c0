"""The errors that a user can cause or mend.

Each carries two sentences: what is the case, and what to do. A front end prints them as they
are, without a traceback; a traceback is for mistakes in bpfmatrix itself.
"""

import difflib
from collections.abc import Iterable


class BpfmatrixError(Exception):
    """One sentence for what is the case, one for what to do about it.

    `exit_status` is 2 for wrong usage (command line, kernels.yaml) and 1 for everything else.
    """

    exit_status = 1

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.what}\n{self.advice}" if self.advice else self.what


class UsageError(BpfmatrixError):
    """The command line, or a file that the user wrote, asks for what does not exist."""

    exit_status = 2


class ConfigError(UsageError):
    """kernels.yaml says something that it can't mean."""


class KernelUnavailableError(BpfmatrixError):
    """A kernel is neither cached nor to be had from its source."""


class UnreachableError(KernelUnavailableError):
    """The network, a proxy or a server did not answer; says nothing about the kernel."""


class DamagedError(BpfmatrixError):
    """A file in the cache no longer has the checksum that it was stored with."""


class ToolMissingError(BpfmatrixError):
    """A program of the host that this step needs is not installed."""


class BuildError(BpfmatrixError):
    """The project's own eBPF or tests do not build."""


class PayloadError(BpfmatrixError):
    """A file that the guest should run could not run there."""


class MachineError(BpfmatrixError):
    """QEMU could not be started or driven; says nothing about the kernel in it."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "...")?` for the closest known word, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""

"""The errors that a user can cause or correct.

Each has two sentences: what happened, and what to do about it. The command line prints them without
a traceback. A traceback appears only for a mistake in bpfmatrix itself.
"""

import difflib
from collections.abc import Iterable


class BpfmatrixError(Exception):
    """The base of all errors: `what` happened, and `advice` on what to do about it.

    `exit_status` is 2 for wrong usage (the command line or kernels.yaml), and 1 for all else.
    """

    exit_status = 1

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.what}\n{self.advice}" if self.advice else self.what


class UsageError(BpfmatrixError):
    """The command line, or a file that the user wrote, asks for something that does not exist."""

    exit_status = 2


class ConfigError(UsageError):
    """kernels.yaml is missing, can't be read, or has a wrong key or value."""


class KernelUnavailableError(BpfmatrixError):
    """A kernel is not in the cache, and its source does not have it."""


class NotInArchiveError(KernelUnavailableError):
    """An archive's index names a package, and the archive does not have it."""


class UnreachableError(KernelUnavailableError):
    """The network, a proxy or a server did not answer. The source may well have the kernel."""


class DamagedError(BpfmatrixError):
    """A file in the cache does not have the checksum that it had when it was stored."""


class ToolMissingError(BpfmatrixError):
    """A program that is needed on the host is not installed."""


class BuildError(BpfmatrixError):
    """The project's eBPF programs or tests do not build."""


class KernelBuildError(BpfmatrixError):
    """A kernel's source tree does not build, or can't have the options that were asked for."""


class PayloadError(BpfmatrixError):
    """A file of the payload can't be used in the guest."""


class MachineError(BpfmatrixError):
    """QEMU could not be started or controlled. The kernel in it is not the cause."""


class HostError(BpfmatrixError):
    """The host refused something: a full disk, a limit of this user, a folder of another user."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "...?")` with the closest known word; empty if none is close."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""

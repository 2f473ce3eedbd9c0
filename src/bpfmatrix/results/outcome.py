"""Outcomes, and what the results of all runs on one kernel have in common."""

import enum
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["FINE", "GuestRun", "KernelWarning", "Outcome"]


class Outcome(enum.StrEnum):
    """How a test, an eBPF program or a whole run ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    TIMEOUT = "timeout"
    """It reached its time limit."""
    PANIC = "panic"
    """The kernel panicked."""
    LOST = "lost"
    """The machine ended, or stopped answering, before it reported how the test ended."""
    ERROR = "error"
    """A failure of ours: no kernel, no payload or no machine, or no test ran."""
    INTERRUPTED = "interrupted"
    """The user pressed Ctrl-C."""


FINE = (Outcome.PASSED, Outcome.SKIPPED)
"""The outcomes that do not make a run fail."""


@dataclass(frozen=True)
class KernelWarning:
    """A complaint of the kernel on its console: a warning, a lockdep or KASAN report, a stall."""

    title: str
    """Its first line, without the time."""
    lines: tuple[str, ...] = ()
    """Its first lines, with the title."""
    during: str = ""
    """The test, or the tests, that ran when it came; or the object that was being loaded."""
    expected: str = ""
    """The reason that `expect` in kernels.yaml gives for it; empty if it was not expected."""

    @property
    def summary(self) -> str:
        """Its first line, what ran when it came, and why it was expected, in one line."""
        during = f" (during {self.during})" if self.during else ""
        expected = f", as expected: {self.expected}" if self.expected else ""
        return f"{self.title}{during}{expected}"


@dataclass(frozen=True)
class GuestRun:
    """What the result of any run on one kernel says: of tests, or of loading programs."""

    kernel: str
    """The kernel's id in kernels.yaml."""
    outcome: Outcome
    reason: str = ""
    """Why it did not pass, in one line; empty if it passed."""
    release: str = ""
    """The release of the guest's kernel (`uname -r`), such as `6.1.0-56-cloud-amd64`."""
    version: str = ""
    """The upstream release that the kernel is made from, such as `6.1.192`."""
    arch: str = ""
    """The architecture, as `uname -m` prints it."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the kernel's image came from, with its digest."""
    rootfs: str = ""
    """The root file system of the tests, if it is not the guest's: the name of an image with its
    digest, `host`, or a folder."""
    accelerator: str = ""
    """`tcg` (emulation) or `kvm`."""
    start: str = "cold"
    """`cold` (booted) or `warm` (restored from a template)."""
    seconds_to_ready: float = 0.0
    """The time from QEMU's start until the guest was ready."""
    seconds: float = 0.0
    """The duration of the whole run, from QEMU's start to its end."""
    started_at: str = ""
    """The time of the start, in ISO 8601 and UTC."""
    warnings: tuple[KernelWarning, ...] = ()
    """What the kernel complained of while the tests ran, or programs were loaded."""
    console: str = ""
    """The file of the kernel's console, a path relative to kernels.yaml."""
    dumps: tuple[str, ...] = ()
    """The core files of the memory of guests that panicked, as paths relative to kernels.yaml."""
    tool_version: str = ""
    """The version of bpfmatrix."""
    cached: bool = False
    """Whether this is an earlier run that passed, shown again because nothing has changed."""

    @property
    def age(self) -> str:
        """How long ago the run started, such as `3 min`."""
        seconds = (datetime.now(UTC) - datetime.fromisoformat(self.started_at)).total_seconds()
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
            if seconds >= size:
                return f"{seconds / size:.0f} {unit}"
        return f"{seconds:.0f} s"

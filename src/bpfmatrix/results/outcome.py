"""How a test, an eBPF program or a whole run ended, and what is known of any run on one kernel."""

import enum
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FINE", "GuestRun", "Outcome"]


class Outcome(enum.StrEnum):
    """How a test, or the run of a kernel, ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    TIMEOUT = "timeout"
    """It ran into its limit."""
    PANIC = "panic"
    """The kernel panicked."""
    LOST = "lost"
    """The machine ended, or fell silent, without having said how the test ended."""
    ERROR = "error"
    """Ours: the kernel, the payload or the machine could not be had, or no test ran."""
    INTERRUPTED = "interrupted"
    """Ctrl-C."""


FINE = (Outcome.PASSED, Outcome.SKIPPED)
"""The outcomes that fail no run."""


@dataclass(frozen=True)
class GuestRun:
    """What is known of any run on one kernel, whatever was done there."""

    kernel: str
    """The id of kernels.yaml."""
    outcome: Outcome
    reason: str = ""
    """Why it did not pass, in one line; empty if it passed."""
    release: str = ""
    """What the guest's kernel called itself (`uname -r`)."""
    version: str = ""
    """The upstream release that it is made from."""
    arch: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the kernel's image came from, with its digest."""
    accelerator: str = ""
    """`tcg` (emulation) or `kvm`."""
    start: str = "cold"
    """`cold` (booted) or `warm` (restored from a template)."""
    seconds_to_ready: float = 0.0
    """From QEMU's start until the guest was ready."""
    seconds: float = 0.0
    """The whole run of this kernel, from QEMU's start to its end."""
    started_at: str = ""
    """ISO 8601, UTC."""
    console: str = ""
    """The kernel's console, a path relative to kernels.yaml."""
    tool_version: str = ""

"""What a user asks of `invoke debug`, beyond the tests that run."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DebugOptions"]


@dataclass(frozen=True)
class DebugOptions:
    """The options of a debug session."""

    breakpoints: tuple[str, ...] = ()
    """Functions, and FILE:LINE; the entry of the verifier if there is none."""
    batch: tuple[str, ...] | None = None
    """Commands that gdb runs at the first stop before it ends; None if a person uses gdb."""
    gdb_args: tuple[str, ...] = ()
    """Further arguments of gdb."""
    attach_later: bool = False
    """Do not start gdb, and print how to start it."""
    port: int = 0
    """The TCP port of QEMU's gdb stub on the loopback interface; 0 for a Unix socket instead."""
    vscode: bool = False
    """Start nothing, and write a launch configuration for the editor."""
    json_port: bool = False
    """With `attach_later`, print a line of JSON."""
    vmlinux: Path | None = None
    """The kernel's vmlinux with DWARF."""
    source: Path | None = None
    """The kernel's source tree."""
    accel: str = "tcg"
    """The accelerator: `tcg`, or `kvm` with hardware breakpoints."""
    names: bool = False
    """Use only the names of functions, even if a vmlinux could be fetched."""

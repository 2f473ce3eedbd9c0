"""What a user asks of any guest session, beyond kernels.yaml.

This module is light, since `nox -l` imports it.
"""

from dataclasses import dataclass, field

from bpfmatrix.config.settings import Settings
from bpfmatrix.virtiofs.shares import HostFiles

__all__ = ["SessionOptions"]


@dataclass(frozen=True)
class SessionOptions:
    """The options that are the same for all workloads."""

    cold: bool = False
    """Boot the kernel, even if there is a template."""
    files: HostFiles = field(default_factory=HostFiles)
    """The files of the host that the guest sees."""
    network: bool = False
    """The guest has QEMU's user network."""
    core: bool = False
    """Keep the core files of processes that die by a signal."""
    dump: bool = False
    """Dump the memory of a guest that panics, whatever kernels.yaml says."""
    settings: Settings = field(default_factory=Settings)
    """How commands are started, over what kernels.yaml says."""

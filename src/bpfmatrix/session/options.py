"""What a user asks of any guest session, beyond kernels.yaml. Light: `nox -l` imports it too."""

from dataclasses import dataclass, field

from bpfmatrix.virtiofs.shares import HostFiles

__all__ = ["SessionOptions"]


@dataclass(frozen=True)
class SessionOptions:
    """The options of a guest session, whatever its workload is."""

    cold: bool = False
    """Boot the kernel, even if there is a template."""
    files: HostFiles = field(default_factory=HostFiles)
    """What the guest sees of the host."""
    network: bool = False
    """The guest has QEMU's user network."""
    core: bool = False
    """Keep the core files of processes that die by a signal."""

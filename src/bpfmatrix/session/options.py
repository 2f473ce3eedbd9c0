"""What a user asks of a run, beyond kernels.yaml. Light, for `nox -l` imports it too."""

from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.virtiofs.shares import HostFiles

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The options of a run. Paths are relative to the working directory."""

    run: str | None = None
    """A regular expression: the tests to run."""
    binaries: tuple[Path, ...] = ()
    """Executables to run in place of the declared ones."""
    test_seconds: float | None = None
    """The limit of each executable, in place of timeout.test."""
    arguments: tuple[str, ...] = ()
    """Further arguments of each executable."""
    cold: bool = False
    """Boot the kernel, even if there is a template."""
    cached: bool = False
    """Take the result of an earlier run that passed, where all that shaped it is the same."""
    files: HostFiles = field(default_factory=HostFiles)
    """What the guest sees of the host."""
    network: bool = False
    """The guest has QEMU's user network."""
    core: bool = False
    """Keep the core files of processes that die by a signal."""

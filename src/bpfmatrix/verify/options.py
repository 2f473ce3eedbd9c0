"""What a user asks of `invoke verify`, beyond kernels.yaml. Light: tasks import it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["VerifyOptions"]


@dataclass(frozen=True)
class VerifyOptions:
    """The options of a verification. Where one is None, kernels.yaml decides."""

    objects: tuple[str, ...] = ()
    """Paths and patterns, relative to the working directory."""
    set: Mapping[str, str] = field(default_factory=dict)
    """Values of constants (`const volatile`), by their names."""
    map_sizes: Mapping[str, str] = field(default_factory=dict)
    """Numbers of entries, by the names of maps."""
    only: tuple[str, ...] = ()
    """Programs; none means all."""
    attach: bool = False
    """Whether to attach each program that can be attached, and detach it."""
    max_insns: str | None = None
    """A percentage of the verifier's limit, or a number of instructions."""
    limit_seconds: float | None = None
    """The limit for loading one program."""
    full_log: bool = False
    """Whether a program that loads gives its log too, each instruction as often as it is walked."""
    cold: bool = False
    """Boot the kernel, even if there is a template."""

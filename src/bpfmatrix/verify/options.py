"""What a user asks of `invoke verify`, beyond kernels.yaml. It is light, as tasks import it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bpfmatrix.session.options import SessionOptions
from bpfmatrix.verify.selection import Names

__all__ = ["VerifyOptions"]


@dataclass(frozen=True)
class VerifyOptions(SessionOptions):
    """The options of a verification. If one is None, kernels.yaml decides."""

    objects: tuple[str, ...] = ()
    """Paths and patterns of object files, relative to the working directory."""
    loaders: tuple[str, ...] = ()
    """The loaders to use; if there are none, kernels.yaml decides."""
    first_loader_only: bool = False
    """Whether each object is loaded with the first of its loaders, and not with the others."""
    presets: tuple[str, ...] = ()
    """The presets to load of objects that have presets; none means all."""
    set: Mapping[str, str] = field(default_factory=dict)
    """Values of constants (`const volatile`), by their names."""
    map_sizes: Mapping[str, str] = field(default_factory=dict)
    """Numbers of entries, by the names of maps."""
    only: tuple[str, ...] = ()
    """The names of the programs to load; none means all."""
    names: tuple[Names, ...] = ()
    """Patterns of the files and programs to load; none means all."""
    attach: bool = False
    """Whether to attach each program that can be attached, and detach it."""
    max_insns: str | None = None
    """A percentage of the verifier's limit, or a number of instructions."""
    limit_seconds: float | None = None
    """The time limit for loading one program."""
    full_log: bool = False
    """Whether a program that loads has a log too: that of level 2, with every instruction as often
    as the verifier walked it."""
    cached: bool = False
    """Use the result of an earlier verification that passed, if nothing has changed since."""

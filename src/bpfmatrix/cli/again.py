"""How a run was started, by the values of its options: for the commands that messages name."""

from bpfmatrix.cli import options
from bpfmatrix.cli.values import Values, guest_words
from bpfmatrix.report.again import Again

__all__ = ["again_of"]


def again_of(values: Values) -> Again:
    """Return how a run was started, by the values of its options."""
    declared: frozenset[str] = frozenset()
    if values[options.AVAILABLE]:
        from bpfmatrix.config.project import Project

        declared = frozenset(Project.load().config.kernels)
    return Again(
        values[options.BINARY],
        guest_words(values),
        values[options.IMAGE],
        values[options.AVAILABLE],
        declared,
    )

"""How a run was started, by the values of its options: for the commands that messages name."""

from bpfmatrix.cli import options
from bpfmatrix.cli.options import Option
from bpfmatrix.cli.values import Values
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
        _guest_words(values),
        values[options.IMAGE],
        values[options.AVAILABLE],
        declared,
    )


def _guest_words(values: Values) -> tuple[str, ...]:
    capabilities = values[options.CAPABILITIES]
    single: tuple[tuple[Option[str | None], str | None], ...] = (
        (options.ROOTFS, values[options.ROOTFS]),
        (options.NET, values[options.NET]),
        (options.USER, values[options.USER]),
        (options.MEMLOCK, values[options.MEMLOCK]),
    )
    words = [(option.name, text) for option, text in single if text is not None]
    words += [(options.SHARE.name, text) for text in values[options.SHARE]]
    if capabilities is not None:
        words.append((options.CAPABILITIES.name, ",".join(capabilities) or "none"))
    return tuple(word for name, text in words for word in (f"--{name}", text))

"""Progress of a long step: the callback by which it is reported."""

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """A callback that is told what a step is doing, and how much of that is done, if known."""

    def __call__(self, text: str, fraction: float | None = None) -> None:
        """Take a report. `fraction` is between 0 and 1, or None if it is not known."""


def silent(text: str, fraction: float | None = None) -> None:
    """Ignore the report."""

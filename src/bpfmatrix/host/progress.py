"""How a step that takes a while tells what it is doing, without knowing who listens."""

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called with what is being done, and how much of it is done where that is known."""

    def __call__(self, text: str, fraction: float | None = None) -> None:
        """`fraction` is between 0 and 1."""


def silent(text: str, fraction: float | None = None) -> None:
    """Listen to nothing."""

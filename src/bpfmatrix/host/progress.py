"""Progress of a long step: the callback by which it is reported."""

from typing import Protocol, runtime_checkable

__all__ = ["NotingProgress", "Progress", "announce", "silent"]


class Progress(Protocol):
    """A callback that is told what a step is doing, and how much of that is done, if known."""

    def __call__(self, text: str, fraction: float | None = None) -> None:
        """Take a report. `fraction` is between 0 and 1, or None if it is not known."""


@runtime_checkable
class NotingProgress(Progress, Protocol):
    """A progress whose reports are replaced by the next ones, except for notes, which stay."""

    def note(self, text: str) -> None:
        """Take a message that people should see also when the step is done."""


def announce(progress: Progress, text: str) -> None:
    """Report what people should see also when the step is done, such as a file that was damaged."""
    if isinstance(progress, NotingProgress):
        progress.note(text)
    else:
        progress(text)


def silent(text: str, fraction: float | None = None) -> None:
    """Ignore the report."""

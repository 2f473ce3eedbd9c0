"""The errors that a user can cause or fix.

This package runs in Pythons that have no other packages, so it has its own.
"""

from __future__ import annotations

__all__ = ["BytecodeLinesError", "PycError", "TableError"]


class BytecodeLinesError(Exception):
    """One sentence that says what is wrong, and one (or "") that says what to do about it."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.what}\n{self.advice}" if self.advice else self.what


class PycError(BytecodeLinesError):
    """A file is not a .pyc file, is damaged, or is of an unknown version of Python."""


class TableError(BytecodeLinesError):
    """The bytes of a line table are not of the expected format."""

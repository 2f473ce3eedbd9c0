"""The errors of pylines that a user can cause or fix.

pylines runs in Pythons that have no packages, so it imports nothing of bpfmatrix.
"""

__all__ = ["PycError", "PylinesError", "TableError"]


class PylinesError(Exception):
    """One sentence that says what is wrong, and one (or "") that says what to do about it."""

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.what}\n{self.advice}" if self.advice else self.what


class PycError(PylinesError):
    """A file is not a .pyc file, is damaged, or is of an unknown version of Python."""


class TableError(PylinesError):
    """The bytes of a line table are not of the expected format."""

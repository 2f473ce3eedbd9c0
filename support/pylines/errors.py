"""What a user of pylines can cause or mend."""

from bpfmatrix.errors import BpfmatrixError

__all__ = ["PycError", "PylinesError", "TableError"]


class PylinesError(BpfmatrixError):
    """One sentence for what is the case, one for what to do about it."""


class PycError(PylinesError):
    """A file is no .pyc, a damaged one, or one of an unknown Python."""


class TableError(PylinesError):
    """A line table's bytes can't be one of the format that they were taken for."""

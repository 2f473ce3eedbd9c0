"""bats, the Bash Automated Testing System, which prints TAP if it is asked to."""

from bpfmatrix.suite.formats.tap import TapReader

__all__ = ["BatsReader"]


class BatsReader(TapReader):
    """Reads bats's TAP. Without the argument, its output may be that for terminals."""

    @staticmethod
    def arguments(report: str) -> tuple[str, ...]:
        """See Reader."""
        return ("--tap",)

"""Executables that are one test each, whose exit status decides: any program, or automake's."""

from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import End, LineReader
from bpfmatrix.suite.formats.deaths import last_words

__all__ = ["AutomakeReader", "PlainReader"]

_HARD_ERROR = 99


class PlainReader(LineReader):
    """Reports one test. What it prints is its output, and may say what it died of."""

    def line(self, line: str) -> None:
        """See LineReader."""

    def better_reason(self, end: End) -> str:
        """See Reader."""
        said = last_words(self.output) if end.outcome is Outcome.FAILED and not end.oops else ""
        return said or super().better_reason(end)


class AutomakeReader(PlainReader):
    """The protocol of automake's simple tests: 77 skips a test, 99 says that it could not run.

    See "Scripts-based Testsuites" in automake's manual.
    """

    skip_status = 77

    def better_reason(self, end: End) -> str:
        """See Reader."""
        if end.status == _HARD_ERROR and end.outcome is Outcome.FAILED:
            return f"a hard error (exit status {_HARD_ERROR})"
        return super().better_reason(end)

"""Catch2, versions 2 and 3, by its JUnit reporter."""

from bpfmatrix.suite.formats.base import one_line
from bpfmatrix.suite.formats.junit import Case, JUnitReader, Verdict, located

__all__ = ["Catch2Reader"]


class Catch2Reader(JUnitReader):
    """Reports test cases and their sections. Catch2 prints nothing while it writes its report.

    In most versions, its exit status is the number of assertions that failed.
    """

    @staticmethod
    def arguments(report: str) -> tuple[str, ...]:
        """See Reader. Both versions know these words; only version 3 has several reporters."""
        return ("--reporter", "junit", "--out", report, "--durations", "yes")

    def case_name(self, case: Case) -> str:
        """See JUnitReader. The class is the executable's."""
        return case.name

    def reason(self, verdict: Verdict) -> str:
        """See JUnitReader."""
        lines = [line for line in verdict.text.splitlines() if line.strip() != "FAILED:"]
        return located(lines) or one_line(verdict.message.splitlines())

    def expected(self, case: Case) -> str:
        """See JUnitReader. A test that may fail is "skipped" too if it does."""
        marks = [
            v.message for v in case.verdicts if v.kind == "skipped" and "!mayfail" in v.message
        ]
        failed = any(verdict.kind != "skipped" for verdict in case.verdicts)
        return "it is tagged with !mayfail or !shouldfail" if marks and failed else ""

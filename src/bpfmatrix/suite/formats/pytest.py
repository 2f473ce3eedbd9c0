"""pytest, by its JUnit XML; and by its lines if it died before it wrote that."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import End, one_line
from bpfmatrix.suite.formats.junit import Case, JUnitReader, Verdict

__all__ = ["PytestReader"]

# Its exit status after an error in a file of tests, or `pytest.exit`.
_INTERRUPTED = 2
_LINE = re.compile(
    r"(\S+\.py::.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)(?: \((.*)\))?\s*(?:\[ *\d+%\])?$"
)
_BEGUN = re.compile(r"(\S+\.py::.*?) $")
_OUTCOMES = {"PASSED": Outcome.PASSED, "XPASS": Outcome.PASSED, "SKIPPED": Outcome.SKIPPED}
_PLACE = re.compile(r"(\S+\.py:\d+): \S")
_EXPLAINED = re.compile(r"E +(\S.*)$")
_IN_FIXTURE = re.compile(r'(failed on (?:setup|teardown)) with "(.*)', re.DOTALL)


class PytestReader(JUnitReader):
    """Reports tests under pytest's own names, such as `tests/test_maps.py::test_full[1]`."""

    failure_statuses = (1,)

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._printed: dict[str, tuple[str, str]] = {}

    @staticmethod
    def arguments(report: str) -> tuple[str, ...]:
        """See Reader. The older family of the report has the file of each test."""
        return (f"--junit-xml={report}", "-o", "junit_family=xunit1", "-v", "--color=no")

    @property
    def running(self) -> str:
        """See Reader."""
        match = _BEGUN.match(self.partial)
        return match[1] if match else ""

    def line(self, line: str) -> None:
        """See LineReader."""
        if match := _LINE.match(line):
            self._printed[match[1]] = (match[2], match[3] or "")

    def case_name(self, case: Case) -> str:
        """See JUnitReader."""
        if not case.file:
            return super().case_name(case)
        module = str(PurePosixPath(case.file).with_suffix("")).replace("/", ".")
        inner = case.classname.removeprefix(module).strip(".").split(".")
        if not case.classname:  # of a file that could not be imported
            return case.file
        return "::".join([case.file, *filter(None, inner), case.name])

    def reason(self, verdict: Verdict) -> str:
        """See JUnitReader."""
        if verdict.kind == "skipped":
            return one_line(verdict.message.splitlines())
        lines = verdict.text.splitlines()
        message = verdict.message
        if message == "collection failure":
            explained = [match[1] for line in lines if (match := _EXPLAINED.match(line))]
            return one_line(explained[-1:] or [message])
        if match := _IN_FIXTURE.match(message):
            message = f"{match[1]}: {match[2].removesuffix(chr(34))}"
        places = [match[1] for line in lines if (match := _PLACE.match(line))]
        # Behind the assertion, there is the difference in full.
        said = one_line([line for line in message.splitlines() if line.strip()][:2])
        return f"{said} ({places[-1]})" if places else said

    def expected(self, case: Case) -> str:
        """See JUnitReader."""
        marks = [v.message or "xfail" for v in case.verdicts if v.type == "pytest.xfail"]
        return marks[0] if marks else ""

    def better_reason(self, end: End) -> str:
        """See JUnitReader."""
        if end.outcome is Outcome.FAILED and end.status == _INTERRUPTED and not end.oops:
            return f"pytest was interrupted, so tests may not have run (exit status {_INTERRUPTED})"
        return super().better_reason(end)

    def without_report(self) -> None:
        """See JUnitReader."""
        for name, (word, said) in self._printed.items():
            expected = said or "xfail" if word in ("XFAIL", "XPASS") else ""
            outcome = _OUTCOMES.get(word, Outcome.FAILED)
            reason = said if outcome is Outcome.SKIPPED else ""
            reason = reason or ("" if outcome is Outcome.PASSED else word.lower())
            self.report(name, outcome, reason=reason, expected=expected)

    async def drain(self, end: End) -> None:
        """See Reader."""
        self._cut_short = self.running
        await super().drain(end)

    def unfinished(self, end: End, reason: str) -> Iterable[tuple[str, str, str]]:
        """See Reader."""
        return [(self._cut_short, reason, "")] if self._cut_short else []

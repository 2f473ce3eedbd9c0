"""Reports as JUnit XML, which a test runner writes into a file of the guest if it is asked to.

They are read by junitparser. Without a report, or with one that is damaged, the exit status of the
executable decides, and the result says so.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import End, LineReader, one_line
from bpfmatrix.suite.formats.deaths import last_words

if TYPE_CHECKING:
    from junitparser import TestCase

__all__ = ["Case", "JUnitReader", "Verdict", "located"]


@dataclass(frozen=True)
class Verdict:
    """One thing that a report says of a test: an element below its `testcase`."""

    kind: str
    """`failure`, `error` or `skipped`."""
    type: str
    message: str
    text: str


@dataclass(frozen=True)
class Case:
    """A test of a report."""

    name: str
    classname: str
    file: str
    seconds: float
    verdicts: tuple[Verdict, ...]
    output: str
    is_disabled: bool = False
    """Whether it did not run, as its name or its tag says."""


class JUnitReader(LineReader):
    """Reads what is printed by lines, and the report when the executable has ended."""

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._xml = b""
        self._problem = ""

    # What a runner's reports have of their own.

    def case_name(self, case: Case) -> str:
        """Return the name of a test in results."""
        return f"{case.classname}.{case.name}" if case.classname else case.name

    def reason(self, verdict: Verdict) -> str:
        """Return why a test failed or was skipped, in one line."""
        return one_line((verdict.message or verdict.text).splitlines())

    def expected(self, case: Case) -> str:
        """Return why a failure of a test was expected, or `""`."""
        return ""

    def without_report(self) -> None:
        """Report the tests that are known from what was printed."""

    # What is the same for each.

    def line(self, line: str) -> None:
        """See LineReader."""

    def feed_report(self, data: bytes) -> None:
        """See Reader."""
        self._xml += data

    async def drain(self, end: End) -> None:
        """See Reader."""
        await super().drain(end)
        if not self._xml:
            self._problem = "it wrote no report"
        else:
            try:
                cases = list(_cases(self._xml))
            except (ParseError, ValueError, TypeError, AttributeError, LookupError) as error:
                self._problem = f"its report can't be read: {one_line(str(error).splitlines())}"
            else:
                self._report_cases(cases)
                return
        self.without_report()

    def _report_cases(self, cases: Sequence[Case]) -> None:
        named: dict[str, list[Case]] = {}
        for case in cases:
            # A test and its teardown, or its repetitions, have the same name.
            named.setdefault(self.case_name(case), []).append(case)
        for name, same in named.items():
            if not self.has_reported(name) or any(_is_bad(case) for case in same):
                self._report_case(name, same)

    def _report_case(self, name: str, same: Sequence[Case]) -> None:
        verdicts = [verdict for case in same for verdict in case.verdicts]
        bad = [verdict for verdict in verdicts if verdict.kind != "skipped"]
        skipped = [verdict for verdict in verdicts if verdict.kind == "skipped"]
        expected = next(filter(None, map(self.expected, same)), "")
        if bad or expected:
            outcome, reasons = Outcome.FAILED, [*map(self.reason, bad), "failed"]
        elif skipped:
            outcome, reasons = Outcome.SKIPPED, [*map(self.reason, skipped), "skipped"]
        elif same[0].is_disabled:
            outcome, reasons = Outcome.SKIPPED, ["disabled"]
        else:
            outcome, reasons = Outcome.PASSED, [""]
        texts = [verdict.text for verdict in verdicts if verdict.text.strip()]
        self.report(
            name,
            outcome,
            seconds=sum(case.seconds for case in same),
            reason=next(filter(None, reasons), ""),
            output="\n".join([*texts, *(case.output for case in same if case.output)]),
            expected=expected,
        )

    def better_reason(self, end: End) -> str:
        """See Reader."""
        said = last_words(self.output) if end.outcome is Outcome.FAILED and not end.oops else ""
        return "; ".join(filter(None, (said or super().better_reason(end), self._problem)))

    def without_tests(self, end: End) -> tuple[Outcome, str] | None:
        """See Reader."""
        if self._problem:
            return Outcome.PASSED, f"{self._problem}, so its exit status decided"
        return Outcome.SKIPPED, "its report has no tests"


def _is_bad(case: Case) -> bool:
    return any(verdict.kind != "skipped" for verdict in case.verdicts)


def _cases(data: bytes) -> Iterator[Case]:
    from junitparser import Attr, JUnitXml, JUnitXmlError, TestCase, TestSuite  # noqa: PLC0415

    class Extended(TestCase):
        """With what GoogleTest and pytest add."""

        file = Attr("file")
        status = Attr("status")

    def within(suite: TestSuite) -> Iterator[Case]:
        for case in suite:
            more = Extended.fromelem(case)  # type: ignore[no-untyped-call]
            yield _case(case, more.file or "", more.status or "")
        for inner in suite.testsuites():  # type: ignore[no-untyped-call]
            yield from within(inner)

    try:
        report = JUnitXml.fromstring(data)
    except JUnitXmlError as error:
        raise ValueError(str(error)) from error
    for suite in [report] if isinstance(report, TestSuite) else report:
        yield from within(suite)


def _case(case: "TestCase", file: str, status: str) -> Case:
    verdicts = tuple(
        Verdict(
            type(result).__name__.lower(),
            result.type or "",
            result.message or "",
            result.text or "",
        )
        for result in case.result
    )
    return Case(
        case.name or "",
        case.classname or "",
        file,
        case.time or 0.0,
        verdicts,
        case.system_out or "",
        status == "notrun",
    )


# A line such as `maps.cc:12`, or `at maps.cc:12`.
_PLACE = re.compile(r"(?:at )?(\S+\.\w+:\d+):?(?: Failure| Skipped)?$")


def located(lines: Sequence[str]) -> str:
    """Return a message in one line, with the place that one of its lines names at its end."""
    places = [match[1] for line in lines if (match := _PLACE.match(line.strip()))]
    said = one_line(line for line in lines if not _PLACE.match(line.strip()))
    return f"{said} ({places[0]})" if places and said else said or next(iter(places), "")

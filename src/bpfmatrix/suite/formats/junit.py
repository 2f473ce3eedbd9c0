"""Reports as JUnit XML, which a test runner writes into a file of the guest if it is asked to.

Without a report, or with one that is damaged, the exit status of the executable decides, and the
result says so.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import End, LineReader, one_line
from bpfmatrix.suite.formats.deaths import last_words

__all__ = ["Case", "JUnitReader", "Verdict", "located"]

# Suites of the runners that are known are at most a few deep.
_DEPTH = 50
_VERDICTS = ("failure", "error", "skipped")


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

    def beside_report(self, bad: Collection[str]) -> None:
        """Report failures that were printed; `bad` are the tests that failed by the report."""

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
            except (ElementTree.ParseError, ValueError, RecursionError) as error:
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
        self.beside_report({name for name, same in named.items() if any(map(_is_bad, same))})

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
    """Yield the tests of a report. ParseError or ValueError if it is none."""
    root = ElementTree.fromstring(data)  # noqa: S314 - expat limits what entities expand to
    if root.tag not in ("testsuites", "testsuite"):
        raise ValueError(f"it begins with <{root.tag}>, and not with <testsuites>")
    waiting = [(root, 1)]
    while waiting:
        suite, depth = waiting.pop()
        if depth > _DEPTH:
            raise ValueError(f"its suites are nested more than {_DEPTH} deep")
        yield from map(_case, suite.iterfind("testcase"))
        waiting += [(inner, depth + 1) for inner in reversed(suite.findall("testsuite"))]


def _case(case: ElementTree.Element) -> Case:
    verdicts = tuple(
        Verdict(said.tag, said.get("type", ""), said.get("message", ""), said.text or "")
        for said in case
        if said.tag in _VERDICTS
    )
    return Case(
        case.get("name", ""),
        case.get("classname", ""),
        case.get("file", ""),
        _seconds(case.get("time") or "0"),
        verdicts,
        case.findtext("system-out", ""),
        case.get("status") == "notrun",
    )


def _seconds(text: str) -> float:
    """Return a time in seconds, which may have commas between its thousands."""
    seconds = float(text.replace(",", ""))
    return seconds if math.isfinite(seconds) else 0.0


# A line such as `maps.cc:12`, or `at maps.cc:12`.
_PLACE = re.compile(r"(?:at )?(\S+\.\w+:\d+):?(?: Failure| Skipped)?$")


def located(lines: Sequence[str]) -> str:
    """Return a message in one line, with the place that one of its lines names at its end."""
    places = [match[1] for line in lines if (match := _PLACE.match(line.strip()))]
    said = one_line(line for line in lines if not _PLACE.match(line.strip()))
    return f"{said} ({places[0]})" if places and said else said or next(iter(places), "")

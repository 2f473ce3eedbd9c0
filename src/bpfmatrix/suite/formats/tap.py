"""TAP, the Test Anything Protocol, with the subtests of version 14, and as bats prints it.

A test that is `not ok` failed, whatever the exit status. One that the plan announces and that did
not come is a failure too. `# TODO` makes a failure an expected one.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bpfmatrix.host.excerpt import Excerpt
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats.base import (
    KEPT_CHARACTERS,
    End,
    LineReader,
    never_ran_words,
    skip_reason,
)
from bpfmatrix.suite.formats.tap_lines import Bail, Comment, Line, Plan, Point, Version, parse
from bpfmatrix.suite.formats.tap_reasons import of_comments, of_yaml

__all__ = ["Level", "TapReader"]

_SUBTEST = re.compile(r"Subtest(?::\s*(.*))?$")
_YAML_BEGIN = re.compile(r"(\s+)---\s*$")
_YAML_END = re.compile(r"\s+\.\.\.\s*$")
_YAML_LINES = 1000
_COMMENTS = 200
_DEPTH = 20


@dataclass
class Level:
    """A sequence of test points with one plan: the whole output, or the subtests of a test."""

    name: str = ""
    """The test that the subtests belong to, if it was announced."""
    plan: Plan | None = None
    seen: set[int] = field(default_factory=set)
    count: int = 0
    results: list["_Result"] = field(default_factory=list)
    """The results that wait for the name of the test that they belong to."""
    has_failure: bool = False

    def number(self, point: Point) -> int:
        """Take note of a point, and return its number."""
        self.count += 1
        number = self.count if point.number is None else point.number
        self.seen.add(number)
        return number

    def missing(self) -> str:
        """Say which tests of the plan did not come."""
        planned = self.plan.count if self.plan else 0
        seen = sorted(number for number in self.seen if 0 < number <= planned)
        gaps = [
            (before + 1, after - 1)
            for before, after in zip([0, *seen], [*seen, planned + 1], strict=True)
            if after - before > 1
        ]
        names = [f"{first}" if first == last else f"{first}-{last}" for first, last in gaps]
        return never_ran_words(names, planned - len(seen), planned)

    def surplus(self) -> str:
        """Say how many tests came that the plan did not announce."""
        if self.plan is None or self.count <= self.plan.count:
            return ""
        return f"the plan has {self.plan.count} tests, and {self.count} ran"


@dataclass
class _Result:
    """A test that has ended, with what was printed of it."""

    name: str
    outcome: Outcome
    seconds: float
    reason: str
    output: str
    expected: str


@dataclass
class _Failed:
    """A point that is `not ok`: what follows it may tell why."""

    point: Point
    depth: int
    name: str
    seconds: float
    subtests_failed: bool
    said: str
    comments: list[str] = field(default_factory=list)
    yaml: list[str] = field(default_factory=list)


@dataclass
class _Yaml:
    """The YAML block of a point, which may tell why it is `not ok`."""

    indentation: str
    lines: int = 0


class TapReader(LineReader):
    """Reports each test point, subtests under the names of their tests."""

    needs_plan = True
    """Whether an output without a plan is a failure: it may be cut short."""
    comments_follow = True
    """Whether what a failed test has to say comes behind its point, and not before it."""

    def __init__(
        self, test: Executable, argv: Sequence[str], report: Callable[[TestResult], None]
    ) -> None:
        super().__init__(test, argv, report)
        self._levels = [Level()]
        self._announced = ""
        """The name of the next test with subtests, from a comment."""
        self._announced_level = 1
        """The level of those subtests."""
        self._failed: _Failed | None = None
        self._may_have_yaml = False
        """Whether the YAML block of a point may begin."""
        self._yaml: _Yaml | None = None
        self._comments: list[str] = []
        self._block = Excerpt(KEPT_CHARACTERS)
        """What was printed since the last point."""
        self._last = self._started
        """When the last test ended, or the first one may have begun."""
        self._bailed: str | None = None
        self._cut_short = ""
        """The test within whose subtests the output ended."""

    def began(self, at: float) -> None:
        """See Reader."""
        super().began(at)
        self._last = at

    @property
    def running(self) -> str:
        """See Reader. It is known of tests that announce their subtests."""
        names = [*(level.name for level in self._levels[1:]), self._announced]
        return "/".join(filter(None, names))

    # How subtests are nested, and what is live.

    def unnest(self, line: str) -> tuple[int, Line | None]:
        """Return how deep a line is nested, and what it says."""
        depth, odd = divmod(len(line) - len(line.lstrip(" ")), 4)
        said = parse(line.strip())
        # What is announced has no line of its own yet that a deeper announcement may be in.
        announced = bool(self._announced) and isinstance(said, Comment)
        if odd or depth > min(len(self._levels) + announced, _DEPTH):
            return 0, None
        return depth, said

    def test_name(self, point: Point, number: int) -> str:
        """Return the name of a test in results."""
        return point.name or point.explanation * (point.directive == "skip") or f"test {number}"

    def announcement(self, comment: str) -> str | None:
        """Return the name of a test whose subtests follow, if a comment says so."""
        match = _SUBTEST.match(comment)
        return (match[1] or "") if match else None

    def reports_at_once(self, level: Level) -> bool:
        """Whether subtests are reported before the point of their test has come."""
        return False

    # Lines.

    def line(self, line: str) -> None:
        """See LineReader."""
        if self._is_yaml(line):
            self._block.append(f"{line}\n")
            self._take_yaml(line)
            return
        self._yaml = None
        depth, said = self.unnest(line)
        if not isinstance(said, Comment):
            self._settle()
            self._may_have_yaml = False
        self._block.append(f"{line}\n")
        match said:
            case Comment():
                self._comment(depth, said.text)
            case Version():
                self._enter(depth)
            case Plan():
                self._enter(depth)
                self._levels[-1].plan = said
            case Point():
                self._point(depth, said)
                self._may_have_yaml = True
            case Bail():
                self._bailed = said.reason
            case None:
                pass

    def _comment(self, depth: int, text: str) -> None:
        if (name := self.announcement(text)) is not None:
            self._settle()
            self._announce(depth, name)
        elif self._failed and self.comments_follow:
            self._failed.comments.append(text)
            del self._failed.comments[_COMMENTS:]
        else:
            self._comments.append(text)
            del self._comments[:-_COMMENTS]

    def _announce(self, depth: int, name: str) -> None:
        """Take note that subtests follow: one level below the announcement, or beside it."""
        if self._announced and depth >= self._announced_level:
            self._enter(self._announced_level)
        self._announced = name
        self._announced_level = depth + (depth < len(self._levels))

    def _is_yaml(self, line: str) -> bool:
        """Whether a line belongs to the YAML block of a point; it is indented as its first one."""
        if self._yaml is None and self._may_have_yaml and (begin := _YAML_BEGIN.match(line)):
            self._yaml = _Yaml(begin[1])
        return self._yaml is not None and (
            not line.strip() or line.startswith(self._yaml.indentation)
        )

    def _take_yaml(self, line: str) -> None:
        assert self._yaml is not None
        self._yaml.lines += 1
        if self._failed:
            self._failed.yaml.append(line)
        if _YAML_END.match(line) or self._yaml.lines > _YAML_LINES:
            self._yaml, self._may_have_yaml = None, False
            self._settle()

    def _enter(self, depth: int) -> None:
        """Go to the level of a line; a deeper one begins with it."""
        while len(self._levels) - 1 > depth:
            self._leave("")
        while len(self._levels) - 1 < depth:
            name = self._announced if len(self._levels) == depth else ""
            self._levels.append(Level(name))
            self._announced = ""

    def _leave(self, name: str, expected: str = "") -> Level:
        """End the innermost level: its results are those of subtests of a test."""
        left = self._levels.pop()
        prefix = name or left.name
        for result in left.results:
            result.name = f"{prefix}/{result.name}" if prefix else result.name
            if result.outcome is Outcome.FAILED and not result.expected:
                result.expected = expected
            self._keep(result)
        above = self._levels[-1]
        above.has_failure = above.has_failure or (left.has_failure and not expected)
        return left

    def _point(self, depth: int, point: Point) -> None:
        while len(self._levels) - 1 > depth + 1:
            self._leave("")
        if len(self._levels) - 1 < depth:
            self._enter(depth)
        has_subtests = len(self._levels) - 1 > depth
        number = self._levels[depth].number(point)
        name = self.test_name(point, number)
        now = time.monotonic()
        seconds = now - self._last if point.seconds is None else point.seconds
        self._last = now
        wrong, subtests = "", None
        if has_subtests:
            subtests = self._leave(name, self._expected(point))
            wrong = "; ".join(filter(None, (subtests.missing(), subtests.surplus())))
        self._announced = ""
        if point.ok and not wrong and subtests is None:
            self._end_ok(point, name, seconds)
        elif point.ok and not wrong:
            if subtests is not None and not subtests.count:
                why = subtests.plan.explanation if subtests.plan else point.explanation
                self._end(name, Outcome.SKIPPED, seconds, why or "it has no tests")
        else:
            failed = bool(subtests and subtests.has_failure)
            self._failed = _Failed(point, depth, name, seconds, failed, wrong)
            if not self.comments_follow:
                self._settle()

    @staticmethod
    def _expected(point: Point) -> str:
        known = {"todo": "TODO", "xfail": "XFAIL"}.get(point.directive, "")
        return f"{known}: {point.explanation}" if known and point.explanation else known

    def _end_ok(self, point: Point, name: str, seconds: float) -> None:
        if point.directive == "skip":
            self._end(name, Outcome.SKIPPED, seconds, self._why_skipped(point))
        elif point.directive == "xfail":  # the kernel's way to say that it failed as expected
            self._end(name, Outcome.FAILED, seconds, "failed", self._expected(point))
        else:
            self._end(name, Outcome.PASSED, seconds, "", self._expected(point))

    def _why_skipped(self, point: Point) -> str:
        return point.explanation or skip_reason("\n".join(self._comments), "SKIP")

    def _settle(self) -> None:
        """End the test that failed, once everything that tells why has come."""
        failed, self._failed = self._failed, None
        if failed is None:
            return
        point = failed.point
        while len(self._levels) - 1 > failed.depth:
            self._leave("")
        if point.directive == "skip":
            self._end(failed.name, Outcome.SKIPPED, failed.seconds, self._why_skipped(point))
        elif not failed.subtests_failed or failed.said or self._expected(point):
            reason = self._reason(failed)
            self._end(failed.name, Outcome.FAILED, failed.seconds, reason, self._expected(point))

    def _reason(self, failed: _Failed) -> str:
        point, exit = failed.point, ""
        if point.directive in ("exit", "timeout"):
            words = {"exit": "exit status", "timeout": "timeout after"}[point.directive]
            exit = f"{words} {point.explanation}"
        comments = failed.comments if self.comments_follow else self._comments
        told = (
            of_yaml(failed.yaml)
            or self.reason_of_comments(comments)
            or self.reason_of_comments(self._comments)
        )
        said = [failed.said, told, exit] if failed.said or not told else [told]
        return "; ".join(filter(None, said)) or "not ok"

    def reason_of_comments(self, comments: Sequence[str]) -> str:
        """Return why a test failed, by the comments at its point, or `""`."""
        return of_comments(comments)

    def _end(
        self, name: str, outcome: Outcome, seconds: float, reason: str = "", expected: str = ""
    ) -> None:
        level = self._levels[-1]
        if outcome is Outcome.FAILED and not expected:
            level.has_failure = True
        output, self._block = str(self._block), Excerpt(KEPT_CHARACTERS)
        self._comments = []
        self._keep(_Result(name, outcome, seconds, reason, output, expected))

    def _keep(self, result: _Result) -> None:
        level = self._levels[-1]
        if len(self._levels) > 1 and not self.reports_at_once(level):
            level.results.append(result)
            return
        above = [one.name for one in self._levels[1:] if one.name]
        self.report(
            "/".join([*above, result.name]),
            result.outcome,
            seconds=result.seconds,
            reason=result.reason,
            output=result.output,
            expected=result.expected,
        )

    # The end.

    async def drain(self, end: End) -> None:
        """See Reader."""
        await super().drain(end)
        self._settle()
        self._cut_short = self.running
        self._enter(0)

    def unfinished(self, end: End, reason: str) -> Iterable[tuple[str, str, str]]:
        """See Reader."""
        return [(self._cut_short, reason, str(self._block))] if self._cut_short else []

    def never_ran(self, end: End) -> str:
        """See Reader."""
        return "" if end.outcome is Outcome.SKIPPED else self._levels[0].missing()

    def complaint(self) -> str:
        """See Reader."""
        root = self._levels[0]
        if self._bailed is not None:
            return f"bailed out: {self._bailed}" if self._bailed else "bailed out"
        if root.plan is None and self.needs_plan:
            return "the output has no plan (such as 1..4), so tests may be missing"
        return root.surplus()

    def without_tests(self, end: End) -> tuple[Outcome, str] | None:
        """See Reader."""
        plan = self._levels[0].plan
        if plan is None:
            return Outcome.PASSED, ""
        return Outcome.SKIPPED, plan.explanation or "the plan has no tests"

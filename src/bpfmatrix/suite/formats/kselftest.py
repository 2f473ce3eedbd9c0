"""The kernel's own tests, below tools/testing/selftests: TAP, nested in comments by their runner.

`make run_tests` and run_kselftest.sh print a point for each test program, and what the program
prints before it, each line behind `# `. A program that exits with 4 was skipped.
"""

import re
from collections.abc import Sequence

from bpfmatrix.suite.formats.base import one_line
from bpfmatrix.suite.formats.tap import Level, TapReader
from bpfmatrix.suite.formats.tap_lines import Line, Plan, Point, Version, parse

__all__ = ["KselftestReader"]

_PREFIX = "selftests: "
# kselftest_harness.h: `# seccomp_bpf.c:1234:global.foo:Expected 1 (1) == x (2)`.
_EXPECTED = re.compile(r"(\S+\.\w+):(\d+):[^:]*:(.*)$")
_OF_HARNESS = re.compile(r"\s*(RUN|OK|FAIL|SKIP|PASSED|Starting|FAILED)\b|\S+: Test (failed|term)")


class KselftestReader(TapReader):
    """Reports the tests of one program of the selftests, or those of their runner."""

    skip_status = 4
    needs_plan = False  # scripts of the selftests often have none
    comments_follow = False

    def unnest(self, line: str) -> tuple[int, Line | None]:
        """See TapReader."""
        depth, rest = 0, line
        while rest.startswith("# ") and depth <= len(self._levels) - 1:
            rest = rest[2:]
            depth += 1
            said = parse(rest)
            if isinstance(said, Plan | Version) or (isinstance(said, Point) and said.number):
                return depth, said
        return 0, parse(line)

    def announcement(self, comment: str) -> str | None:
        """See TapReader."""
        found = comment.startswith(_PREFIX) and len(self._levels) == 1
        return comment.removeprefix(_PREFIX).strip() if found else None

    def test_name(self, point: Point, number: int) -> str:
        """See TapReader."""
        return super().test_name(point, number).removeprefix(_PREFIX)

    def reports_at_once(self, level: Level) -> bool:
        """See TapReader."""
        return all(one.name for one in self._levels[1:])

    def reason_of_comments(self, comments: Sequence[str]) -> str:
        """See TapReader."""
        plain = [re.sub(r"^(# )+", "", text) for text in comments]
        for text in plain:
            if match := _EXPECTED.match(text):
                return f"{one_line([match[3]])} ({match[1]}:{match[2]})"
        told = [text for text in plain if text.strip() and not _OF_HARNESS.match(text)]
        return one_line(told[-1:])

"""The hottest lines of stacks."""

from hypothesis import given

from bpfmatrix.profile.stacks import Stack, hottest
from tests.profile.samples import LINES, STACKS


@given(STACKS)
def test_each_sample_counts_for_one_innermost_line(found: list[Stack]) -> None:
    samples = sum(stack.count for stack in found)
    hot_lines = hottest(found)
    assert sum(hot.own for hot in hot_lines) == samples
    assert all(hot.own <= hot.total <= samples for hot in hot_lines)
    assert [hot.own for hot in hot_lines] == sorted((hot.own for hot in hot_lines), reverse=True)


def test_a_recursive_line_counts_once_in_a_sample() -> None:
    line, outer = LINES[1], LINES[2]
    [inner, other] = hottest([Stack((line, line, line, outer), 4, 1), Stack((outer,), 1, 1)])
    assert (inner.line, inner.own, inner.total) == (line, 4, 4)
    assert (other.line, other.own, other.total) == (outer, 1, 5)


def test_a_truncated_stack_could_have_any_line_that_it_lacks() -> None:
    line, outer = LINES[1], LINES[2]
    stacks = [Stack((line, outer), 4, 1), Stack((line,), 3, 1, truncated="too deep")]
    [inner, other] = hottest(stacks)
    assert (inner.line, inner.total, inner.cut) == (line, 7, 0)
    assert (other.line, other.total, other.cut) == (outer, 4, 3)

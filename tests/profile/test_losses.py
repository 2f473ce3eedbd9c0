"""Which places of the ranking are uncertain, against all ways to spread the unknown samples."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from bpfmatrix.profile.losses import uncertain, unknown_samples
from bpfmatrix.profile.stacks import HotLine, SourceLine, Stack, hottest
from tests.profile.samples import LINES, STACKS

RANKINGS = st.dictionaries(st.sampled_from(LINES[:5]), st.integers(0, 6)).map(
    lambda own: sorted(
        (HotLine(line, count, count) for line, count in own.items()),
        key=lambda hot: (-hot.own, hot.line),
    )
)


def spreads(ranking: Sequence[HotLine], unknown: int) -> Iterator[Counter[SourceLine]]:
    """Yield the samples of each line, for each way to give each unknown sample to a line."""
    unseen = SourceLine("/x/unseen.py", 1, "f")
    seen = Counter({hot.line: hot.own for hot in ranking})
    for lines in itertools.combinations_with_replacement([*seen, unseen], unknown):
        yield seen + Counter(lines)


@settings(deadline=None)
@given(RANKINGS, st.integers(0, 5))
def test_a_place_is_uncertain_if_some_spread_of_unknown_samples_changes_it(
    ranking: list[HotLine], unknown: int
) -> None:
    expected = set()
    places = {hot.line: place for place, hot in enumerate(ranking)}
    for samples in spreads(ranking, unknown):
        for line, place in places.items():
            for other in {*places, *samples} - {line}:
                is_above = places.get(other, len(places)) < place
                upper, lower = (other, line) if is_above else (line, other)
                if samples[lower] > samples[upper]:
                    expected.add(line)
    assert uncertain(ranking, unknown) == expected


@given(STACKS)
def test_nothing_is_uncertain_if_nothing_is_unknown(stacks: list[Stack]) -> None:
    assert not uncertain(hottest(stacks), 0)


def test_only_lines_near_each_other_are_uncertain() -> None:
    ranking = [HotLine(LINES[place], own, own) for place, own in enumerate((100, 50, 45))]
    first, second, third = (hot.line for hot in ranking)
    assert uncertain(ranking, 5) == set()
    assert uncertain(ranking, 6) == {second, third}
    assert uncertain(ranking, 51) == {first, second, third}
    # A line in no sample could have all of them.
    assert uncertain(ranking[:1], 101) == {first}


def test_what_did_not_arrive_and_is_not_known_is_unknown() -> None:
    stack = Stack((LINES[0],), 3, 1)
    unreadable = Stack((LINES[0],), 2, 1, truncated="unreadable")
    lost = Stack((LINES[0],), 4, 0, truncated="lost")
    assert unknown_samples({}, [stack], []) == 0
    assert unknown_samples({"lost": 4, "unreadable": 2}, [stack, unreadable], [lost]) == 0
    assert unknown_samples({"lost": 9, "unreadable": 5}, [stack, unreadable], [lost]) == 5 + 3
    assert unknown_samples({"not_found": 7, "no_thread": 9}, [stack], []) == 7

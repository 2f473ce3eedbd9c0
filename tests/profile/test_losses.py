"""Which places of the ranking are uncertain, against all ways in which the losses can be spread."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from bpfmatrix.profile.losses import Loss, uncertain
from bpfmatrix.profile.stacks import HotLine, SourceLine, Stack, hottest
from tests.profile.samples import STACKS

FUNCTIONS = [("/x/a.py", "f"), ("/x/b.py", "f"), ("/x/c.py", "g")]
LINES = [
    SourceLine("/x/a.py", 1, "f"),
    SourceLine("/x/a.py", 2, "f"),
    SourceLine("/x/b.py", 1, "f"),
    SourceLine("/x/c.py", 5, "g"),
]
RANKINGS = st.dictionaries(st.sampled_from(LINES), st.integers(0, 6)).map(
    lambda own: sorted(
        (HotLine(line, count, count) for line, count in own.items()),
        key=lambda hot: (-hot.own, hot.line),
    )
)
LOSSES = st.lists(
    st.builds(Loss, st.integers(1, 3), st.none() | st.sampled_from(FUNCTIONS)), max_size=3
)


def spreads(ranking: Sequence[HotLine], losses: Sequence[Loss]) -> Iterator[Counter[SourceLine]]:
    """Yield the samples of each line, for each way to give each lost sample to a line."""
    unseen = [SourceLine(file, 99, name) for file, name in FUNCTIONS]
    lines = [*(hot.line for hot in ranking), *unseen]
    samples = [loss for loss in losses for _ in range(loss.count)]
    choices = [
        [line for line in lines if loss.function in (None, (line.file, line.function))]
        for loss in samples
    ]
    seen = Counter({hot.line: hot.own for hot in ranking})
    for lines_of_samples in {tuple(sorted(choice)) for choice in itertools.product(*choices)}:
        yield seen + Counter(lines_of_samples)


@settings(deadline=None, max_examples=60)
@given(RANKINGS, LOSSES.filter(lambda losses: sum(loss.count for loss in losses) <= 4))
def test_a_place_is_uncertain_if_some_spread_of_the_losses_changes_it(
    ranking: list[HotLine], losses: list[Loss]
) -> None:
    expected = set()
    places = {hot.line: place for place, hot in enumerate(ranking)}
    for samples in spreads(ranking, losses):
        for line, place in places.items():
            for other in {*places, *samples} - {line}:
                is_above = places.get(other, len(places)) < place
                upper, lower = (other, line) if is_above else (line, other)
                if samples[lower] > samples[upper]:
                    expected.add(line)
    assert uncertain(ranking, losses) == expected


@given(STACKS)
def test_nothing_is_uncertain_if_nothing_is_lost(stacks: list[Stack]) -> None:
    assert not uncertain(hottest(stacks), [])


def test_a_loss_of_one_function_leaves_the_order_of_others() -> None:
    first, second, third = (
        HotLine(SourceLine(f"/x/{name}.py", 1, name), own, own)
        for name, own in (("a", 100), ("b", 50), ("c", 45))
    )
    ranking = [first, second, third]
    assert uncertain(ranking, [Loss(10, ("/x/c.py", "c"))]) == {second.line, third.line}
    assert uncertain(ranking, [Loss(10, ("/x/b.py", "b"))]) == set()
    assert uncertain(ranking, [Loss(60, ("/x/c.py", "c"))]) == {
        first.line,
        second.line,
        third.line,
    }
    assert uncertain(ranking, [Loss(4)]) == set()
    assert uncertain(ranking, [Loss(6)]) == {second.line, third.line}

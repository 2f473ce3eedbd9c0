"""How guests share the objects of a kernel."""

from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.verify.share import Shares, guests_for

WEIGHTS = st.dictionaries(st.text(min_size=1), st.integers(0, 1 << 30), max_size=200)


@given(weights=WEIGHTS, guests=st.integers(1, 8))
def test_each_object_is_in_exactly_one_part(weights: dict[str, int], guests: int) -> None:
    shares = Shares(weights, guests)
    taken: list[str] = []
    while shares:
        part = shares.take()
        assert part
        taken += part
    assert sorted(taken) == sorted(weights)
    assert shares.take() == ()


def test_one_guest_takes_everything() -> None:
    shares = Shares({"a": 1, "b": 2, "c": 0}, 1)
    assert shares.take() == ("b", "a", "c")
    assert not shares


def test_parts_get_smaller_and_begin_with_the_largest_objects() -> None:
    weights = {f"{number}.o": 1000 - number for number in range(400)}
    shares = Shares(weights, 2)
    sizes: list[int] = []
    first = shares.take()
    assert first[0] == "0.o"
    while shares:
        sizes.append(len(shares.take()))
    assert len(first) >= sizes[0] >= 50 > sizes[-1]


def test_few_objects_are_not_shared_and_kvm_needs_one_guest() -> None:
    assert guests_for("tcg", 1, 1000) == 1
    assert guests_for("tcg", 5, 10) == 1
    assert guests_for("kvm", 900, 4000) == 1
    assert guests_for("tcg", 900, 4000) >= 1

"""How guests share the objects of a kernel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.verify.share import Shares, guests_for, workers_for

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


def test_few_objects_are_divided_into_one_part_for_each_guest() -> None:
    shares = Shares({f"{number}.o": 100 - number for number in range(29)}, 2)
    first, second = shares.take(), shares.take()
    assert first[:2] == ("0.o", "2.o")
    assert second[:2] == ("1.o", "3.o")
    assert not shares


def test_parts_of_many_objects_get_smaller_and_begin_with_the_largest() -> None:
    weights = {f"{number}.o": 1000 - number for number in range(400)}
    shares = Shares(weights, 2)
    sizes: list[int] = []
    first = shares.take()
    assert first[0] == "0.o"
    while shares:
        sizes.append(len(shares.take()))
    assert len(first) >= sizes[0] >= 50 >= sizes[-1]


def test_how_many_guests_share_the_objects_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)))
    assert guests_for("tcg", 1, 29, 200) == 4
    assert guests_for("tcg", 2, 29, 200) == 2
    assert guests_for("tcg", 5, 29, 200) == 1
    assert guests_for("tcg", 5, 400, 2000) == 4
    assert guests_for("tcg", 1, 1, 1000) == 1
    assert guests_for("tcg", 1, 5, 10) == 1
    assert guests_for("kvm", 1, 900, 4000) == 1


def test_one_loader_in_each_guest_unless_a_processor_had_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(4)))
    assert workers_for("tcg", kernels=1, guests=1, cpus=2) == 2
    assert workers_for("tcg", kernels=4, guests=1, cpus=2) == 1
    assert workers_for("tcg", kernels=1, guests=4, cpus=2) == 1
    assert workers_for("kvm", kernels=9, guests=1, cpus=8) == 8

"""Durations and sizes as kernels.yaml has them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.config.value_types import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("1.5m", 90), ("500ms", 0.5), ("2h", 7200), (90, 90), (0.5, 0.5)],
)
def test_a_duration_is_read_as_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.integers(1, 10**6), st.sampled_from(["ms", "s", "m", "h"]), st.sampled_from(["", " "]))
def test_a_duration_is_its_number_of_units(number: int, unit: str, space: str) -> None:
    expected = number * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit]
    assert parse_duration(f"{number}{space}{unit}") == pytest.approx(expected)


@given(st.integers(0, 10**6), st.sampled_from("KMG"), st.sampled_from(["", "B", "iB"]))
def test_a_size_is_its_number_of_units(number: int, unit: str, suffix: str) -> None:
    assert parse_size(f"{number}{unit}{suffix}") == number << {"K": 10, "M": 20, "G": 30}[unit]


@given(st.one_of(st.text(), st.booleans(), st.none(), st.floats(), st.integers()))
def test_any_other_value_is_refused_as_a_duration(value: object) -> None:
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        assert "expected a duration" in str(error)  # noqa: PT017 - some values are right
    else:
        assert re.match(r"\s*\d", str(value))
        assert 0 < seconds < float("inf")


@given(st.one_of(st.text(), st.booleans(), st.none(), st.floats(), st.integers()))
def test_any_other_value_is_refused_as_a_size(value: object) -> None:
    try:
        assert parse_size(value) >= 0
    except ValueError as error:
        assert "expected a size" in str(error)  # noqa: PT017 - some values are right

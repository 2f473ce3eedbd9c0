"""A kernel's release as numbers, which can be compared."""

import re
from collections.abc import Iterable

__all__ = ["neighbour", "numbers"]

_BEGIN = re.compile(r"\d+(?:\.\d+){1,2}")


def numbers(release: str) -> tuple[int, ...]:
    """Return the two or three numbers that a release begins with; none where it does not.

    `6.1.192` and `6.1.0-56-cloud-amd64` are such.
    """
    begin = _BEGIN.match(release)
    return tuple(map(int, begin[0].split("."))) if begin else ()


def neighbour(release: str, others: Iterable[str]) -> str:
    """Return the one of the next newer series, the next older one if none is newer, or nothing."""
    series = numbers(release)[:2]
    known = sorted((numbers(other), other) for other in others if numbers(other)[:2] != series)
    found = [(place, other) for place, other in known if place and series]
    newer = (other for place, other in found if place[:2] > series)
    return next(newer, found[-1][1] if found else "")

"""A kernel's release as numbers, which can be compared."""

import re

__all__ = ["numbers"]

_BEGIN = re.compile(r"\d+(?:\.\d+){1,2}")


def numbers(release: str) -> tuple[int, ...]:
    """Return the two or three numbers that a release begins with; none where it does not.

    `6.1.192` and `6.1.0-56-cloud-amd64` are such.
    """
    begin = _BEGIN.match(release)
    return tuple(map(int, begin[0].split("."))) if begin else ()

"""Versions of kernels, packages and tools: parts of them, and numbers by which they compare."""

import re
from collections.abc import Iterable

__all__ = [
    "UNAME_RELEASE",
    "all_numbers",
    "leading_version",
    "neighbour",
    "numbers",
    "of_tool",
    "series",
    "upstream",
]

UNAME_RELEASE = r"[0-9A-Za-z][A-Za-z0-9_.+~:-]{0,63}"
"""A pattern of what `uname -r` may say here: it becomes a folder, and a word of commands.

The kernel's own limit is that of `struct new_utsname` (include/uapi/linux/utsname.h): 64 bytes.
"""

_RELEASE = re.compile(r"\d+(?:\.\d+){1,2}")
_LEADING = re.compile(r"\d+(?:\.\d+)+")
_SERIES = re.compile(r"\d+\.\d+")
# [epoch:]upstream[-revision], in Debian's packages (deb-version(7)) and in RPM's.
_UPSTREAM = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)*)")
_OF_TOOL = re.compile(r"\d+(?:\.\d+)+(?:-\w+)*")


def numbers(release: str) -> tuple[int, ...]:
    """Return the two or three numbers that a kernel's release begins with: (6, 1, 192).

    Releases are such as `6.1.192` and `6.1.0-56-cloud-amd64`. The result is empty for a text that
    does not begin with two numbers.
    """
    found = _RELEASE.match(release)
    return all_numbers(found[0]) if found else ()


def all_numbers(text: str) -> tuple[int, ...]:
    """Return every number in a text, as a key that sorts `6.1.9` before `6.1.10`."""
    return tuple(int(number) for number in re.findall(r"\d+", text))


def leading_version(text: str) -> str:
    """Return the dotted numbers at the beginning of a text: `6.1` of `6.1-arm64`.

    The result is empty if the text does not begin with two numbers or more.
    """
    found = _LEADING.match(text)
    return found[0] if found else ""


def series(release: str) -> str:
    """Return the series of a kernel's release: `6.1` of `6.1.192`; empty if there is none."""
    found = _SERIES.match(release)
    return found[0] if found else ""


def upstream(version: str) -> str:
    """Return the upstream part of a package's version, without its epoch and revision.

    For example, `6.1.192` of `6.1.192-2`, `7.3.4` of `7.3.4-1~bpo13+1`, and `5.14.0` of
    `0:5.14.0-427.el9`. A version that does not begin with a number is returned as it is.
    """
    found = _UPSTREAM.match(version)
    return found[1] if found else version


def of_tool(output: str) -> str:
    """Return the version in the output of a tool's `--version`; empty if there is none."""
    found = _OF_TOOL.search(output)
    return found[0] if found else ""


def neighbour(release: str, others: Iterable[str]) -> str:
    """Return which of the other releases is of the series next to that of `release`.

    This is the next newer series, or the next older one if none is newer. The result is empty if
    there is neither.
    """
    own = numbers(release)[:2]
    known = sorted((numbers(other), other) for other in others if numbers(other)[:2] != own)
    found = [(place, other) for place, other in known if place and own]
    newer = (other for place, other in found if place[:2] > own)
    return next(newer, found[-1][1] if found else "")

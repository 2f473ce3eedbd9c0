"""The lines of the Test Anything Protocol, versions 12 to 14: https://testanything.org.

The directives of the kernel's own tests are known too (Documentation/dev-tools/ktap.rst).
"""

import re
from dataclasses import dataclass

__all__ = ["Bail", "Comment", "Line", "Plan", "Point", "Version", "parse"]

# The first characters of the lines that are not comments; most other lines have another one.
_FIRST = tuple("on1bBTK")
# Longer numbers are no numbers of tests.
_POINT = re.compile(r"(ok|not ok)(?:\s+(\d{1,9}))?(?:\s+(.*))?$")
_PLAN = re.compile(r"1\.\.(\d{1,9})\s*(?:#\s*(.*))?$")
_DIRECTIVE = re.compile(
    r"(?:^|(?<=\s))#\s*(skip\w*|todo|xfail|timeout|time|exit)\b[:=]?\s*(.*)$", re.IGNORECASE
)
_BAIL = re.compile(r"Bail out!\s*(.*)$", re.IGNORECASE)
_VERSION = re.compile(r"K?TAP version (\d{1,9})$")
_MILLISECONDS = re.compile(r"([\d.]{1,20})\s*ms\b")


@dataclass(frozen=True)
class Point:
    """The result of one test."""

    ok: bool
    number: int | None
    name: str
    """What it tests; may be empty."""
    directive: str = ""
    """`skip`, `todo`, `xfail`, `timeout`, `exit`, or `""`."""
    explanation: str = ""
    """What follows the directive."""
    seconds: float | None = None


@dataclass(frozen=True)
class Plan:
    """How many tests there are. If there are none, the reason may be given."""

    count: int
    explanation: str = ""


@dataclass(frozen=True)
class Bail:
    """The whole run is given up."""

    reason: str


@dataclass(frozen=True)
class Version:
    """The first line, with the version."""

    number: int


@dataclass(frozen=True)
class Comment:
    """A line for people."""

    text: str


Line = Point | Plan | Bail | Version | Comment


def parse(line: str) -> Line | None:
    """Return what a line says, without its indentation; None if it is not of the protocol."""
    if line.startswith("#"):
        return Comment(line[1:].removeprefix(" ").rstrip())
    return _parse(line.rstrip()) if line[:1] in _FIRST else None


def _parse(line: str) -> Line | None:
    if match := _POINT.match(line):
        return _point(match[1] == "ok", match[2], match[3] or "")
    if match := _PLAN.match(line):
        return Plan(int(match[1]), re.sub(r"(?i)^skip\w*[:\s]*", "", match[2] or ""))
    if match := _BAIL.match(line):
        return Bail(match[1])
    if match := _VERSION.match(line):
        return Version(int(match[1]))
    return None


def _point(ok: bool, number: str | None, rest: str) -> Point:
    directive = explanation = ""
    seconds = None
    if match := _DIRECTIVE.search(rest):
        word = match[1].lower()
        directive = "skip" if word.startswith("skip") else word
        explanation, rest = match[2].strip(), rest[: match.start()]
        if directive == "time":
            directive, seconds = "", _seconds(explanation)
    name = rest.strip().removeprefix("-").strip()
    name = re.sub(r"\\([\\#])", r"\1", name)
    return Point(ok, int(number) if number else None, name, directive, explanation, seconds)


def _seconds(text: str) -> float | None:
    match = _MILLISECONDS.search(text)
    try:
        return float(match[1]) / 1000 if match else None
    except ValueError:
        return None

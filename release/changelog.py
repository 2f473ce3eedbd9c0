"""CHANGELOG.md: its sections, as Keep a Changelog 1.1.0 has them (keepachangelog.com).

A library reads this format too (keepachangelog). It checks nothing, and the text that it returns
lacks the empty lines, so that GitHub would show paragraphs as one.
"""

import datetime
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

__all__ = ["UNRELEASED", "Section", "notes", "problems", "sections"]

UNRELEASED = "Unreleased"
"""The name of the first section, of what no release has yet."""
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""The headings within a section."""

# Keep a Changelog has a link for each heading at the end, which is no part of the last section.
_LINK = re.compile(r"\[[^\]]+\]: \S+")
_HEADING = re.compile(r"## \[(?P<name>[^\]]+)\](?: - (?P<date>\S+))?")


@dataclass(frozen=True)
class Section:
    """A section: the name in its heading, the date (empty if it has none), and the text below."""

    line: int
    name: str
    date: str
    text: str

    @property
    def kinds(self) -> list[str]:
        """The headings within the section, in their order."""
        return re.findall(r"^### (.+)$", self.text, re.MULTILINE)

    @property
    def empty_kinds(self) -> list[str]:
        """The headings within the section that have nothing below them."""
        return re.findall(r"^### (.+)\n\s*(?=^### |\Z)", self.text + "\n", re.MULTILINE)


def sections(text: str) -> list[Section]:
    """Return the sections of a CHANGELOG.md; a heading that can't be read is left to `problems`."""
    found: list[tuple[int, re.Match[str], list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if heading := _HEADING.fullmatch(line):
            found.append((number, heading, []))
        elif found and not _LINK.fullmatch(line):
            found[-1][2].append(line)
    return [
        Section(number, heading["name"], heading["date"] or "", "\n".join(lines).strip())
        for number, heading, lines in found
    ]


def notes(text: str, version: str) -> str:
    """Return the text of a version's section; LookupError if there is no such section."""
    for section in sections(text):
        if section.name == version:
            return section.text
    raise LookupError(f"CHANGELOG.md has no section [{version}]")


def problems(text: str, release: str | None = None) -> list[str]:
    """Return what is wrong with a CHANGELOG.md, one sentence for each fault.

    With `release`, a version: also whether it is the one to be released now.
    """
    found = [*_headings(text), *_order(sections(text))]
    if release is not None:
        found += _released(sections(text), release)
    return found


def _headings(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("## ") and not _HEADING.fullmatch(line):
            yield f"line {number}: a section's heading is '## [1.2.3] - 2026-01-31', not {line!r}"
    for section in sections(text):
        where = f"line {section.line}: [{section.name}]"
        for kind in section.kinds:
            if kind not in KINDS:
                yield f"{where} has the heading {kind!r}, which is none of {', '.join(KINDS)}"
        if len(set(section.kinds)) < len(section.kinds):
            yield f"{where} has a heading twice: {', '.join(section.kinds)}"
        for kind in section.empty_kinds:
            yield f"{where} lists nothing below the heading {kind!r}"
        if section.name == UNRELEASED:
            continue
        if not section.kinds:
            yield f"{where} lists no changes"
        if _version(section.name) is None:
            yield f"{where}: {section.name!r} is no version"
        if _day(section.date) is None:
            yield f"{where}: {section.date!r} is no date such as 2026-01-31"


def _order(found: list[Section]) -> Iterator[str]:
    if not found or found[0].name != UNRELEASED:
        yield f"the first section is not [{UNRELEASED}]"
    for first, again in itertools.pairwise(sorted(found, key=lambda s: (s.name, s.line))):
        if first.name == again.name:
            yield f"line {again.line}: [{again.name}] is also the section of line {first.line}"
    dated = [(s, v, d) for s in found if (v := _version(s.name)) and (d := _day(s.date))]
    for (newer, version, day), (_, older, before) in itertools.pairwise(dated):
        if version <= older or day < before:
            yield f"line {newer.line}: [{newer.name}] is above a section that is newer"


def _released(found: list[Section], release: str) -> Iterator[str]:
    released = [section for section in found if section.name != UNRELEASED]
    if not released or released[0].name != release:
        there = f"[{released[0].name}]" if released else "none"
        yield f"the newest section of a release is {there}, and not [{release}]"
    if any(section.text for section in found if section.name == UNRELEASED):
        yield f"[{UNRELEASED}] is not empty: move its changes to [{release}]"


def _version(name: str) -> Version | None:
    try:
        return Version(name)
    except InvalidVersion:
        return None


def _day(date: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(date)
    except ValueError:
        return None

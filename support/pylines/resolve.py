"""Samples to lines: `Resolver` looks frames up in indexes, `resolve_stream` does so for a stream.

An identity that no index has, and an offset outside of its code, are told in the result and
counted; the rest goes on.
"""

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TextIO

from pylines.code import Place
from pylines.index import Entry, Index
from pylines.samples import SampleError, parse

__all__ = ["Counts", "Resolved", "Resolver", "resolve_stream"]

CHANGED: Final = "the source has changed since it was compiled"


@dataclass(frozen=True, slots=True)
class Resolved:
    """A frame's place. Without a line, `note` says why; without a function, it is unknown."""

    file: str
    """The path of the source, or of an unknown one what the sample said; may be empty."""
    function: str
    """The qualified name; empty for an identity that no index has."""
    place: Place
    note: str
    """What to know about this result, such as that other functions have the same identity."""

    def __str__(self) -> str:
        """Return `file:line function`, with a tab and the note behind it where there is one."""
        line = "?" if self.place.line is None else self.place.line
        text = f"{self.file or '?'}:{line} {self.function or '?'}"
        return f"{text}\t{self.note}" if self.note else text

    def as_json(self) -> dict[str, Any]:
        """Return the keys that a sample gets."""
        return {
            "file": self.file,
            "line": self.place.line,
            "function": self.function,
            "end_line": self.place.end_line,
            "column": self.place.column,
            "end_column": self.place.end_column,
            "note": self.note,
        }


@dataclass
class Counts:
    """How many frames were resolved, and what came of those that were not."""

    frames: int = 0
    unknown: int = 0
    """No index has their identity."""
    outside: int = 0
    """Their offset lies behind the end of every code object with their identity."""
    ambiguous: int = 0
    """Several functions have their identity, and the sample did not say which."""
    bad_lines: int = 0
    """Not frames, but lines that were no samples."""
    first_bad_line: str = ""


class Resolver:
    """Looks up frames in one index or several, and keeps what it found, as samples repeat."""

    def __init__(self, indexes: Sequence[Index]) -> None:
        self.counts = Counts()
        self._indexes = indexes
        self._functions: dict[tuple[str, str, str], list[_Function]] = {}
        self._kept = 0
        # Of identities that several functions have.
        self._different: dict[tuple[tuple[str, str, str], int], list[Resolved]] = {}

    def resolve(self, identity: str, offset: int, file: str = "", python: str = "") -> Resolved:
        """Return the place of an instruction; `offset`, `file` and `python` are as in a sample."""
        self.counts.frames += 1
        key = (identity, file, python)
        functions = self._functions.get(key)
        if functions is None:
            functions = self._functions[key] = self._find(key)
        if len(functions) == 1:
            resolved = functions[0].at(offset)
            if resolved is None:
                return self._outside(functions[0], offset)
            return resolved
        if not functions:
            self.counts.unknown += 1
            return Resolved(file, "", Place(None), f"no index has {identity}")
        different = self._different.get((key, offset))
        if different is None:
            all_of_them = [function.at(offset) for function in functions]
            different = list({str(found): found for found in all_of_them if found}.values())
            if len(self._different) >= _MOST_DIFFERENT:
                self._different.clear()
            self._different[key, offset] = different
        return self._one_of(functions, different, offset)

    def _one_of(
        self, functions: "list[_Function]", different: list[Resolved], offset: int
    ) -> Resolved:
        if not different:
            return self._outside(functions[0], offset)
        first, *others = different
        if not others:
            return first
        self.counts.ambiguous += 1
        others_text = ", ".join(f"{x.file}:{x.place.line} {x.function}" for x in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return Resolved(first.file, first.function, first.place, f"or {others_text}{more}")

    def _outside(self, function: "_Function", offset: int) -> Resolved:
        self.counts.outside += 1
        entry = function.entry
        note = f"offset {offset} is outside of the code, of {entry.code_length} bytes"
        return Resolved(entry.path, entry.name, Place(None), note)

    def _find(self, key: tuple[str, str, str]) -> "list[_Function]":
        identity, file, python = key
        entries = [entry for index in self._indexes for entry in index.entries(identity)]
        entries = [entry for entry in entries if entry.python == python] if python else entries
        functions = [_Function(entry) for entry in _of_file(entries, file)]
        # Memory has a limit, whatever comes: a long stream fills this again.
        self._kept += _size(functions)
        while self._kept > _MOST_RANGES and self._functions:
            self._kept -= _size(self._functions.pop(next(iter(self._functions))))
        return functions


# Those of 20,000 code objects of the standard library, in 250 bytes each.
_MOST_RANGES: Final = 1_000_000
_MOST_DIFFERENT: Final = 20_000


def _size(functions: "list[_Function]") -> int:
    return 1 + sum(len(function.starts) for function in functions)


class _Function:
    """An entry of an index, and the results for each of its ranges that was asked for."""

    __slots__ = ("_lines", "_results", "entry", "starts")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._lines = entry.lines
        self.starts = array("I", [range.start for range in self._lines.ranges])
        self._results: list[Resolved | None] = [None] * len(self.starts)

    def at(self, offset: int) -> Resolved | None:
        """Return the place of an instruction; None if it is outside of the code."""
        lines = self._lines
        number = bisect_right(self.starts, offset) - 1
        if number < 0 or offset >= lines.ranges[number].end:
            # Before the code, behind it, or in what the table leaves out.
            return self._new(offset) if offset < lines.code_length else None
        implicit = lines.implicit_return
        if implicit is not None and offset >= implicit:
            return self._new(offset)
        result = self._results[number]
        if result is None:
            result = self._results[number] = self._new(offset)
        return result

    def _new(self, offset: int) -> Resolved:
        entry, place = self.entry, self._lines.at(offset)
        note = place.note
        if entry.changed:
            note = f"{note}; {CHANGED}" if note else CHANGED
        return Resolved(entry.path, entry.name, place, note)


def _of_file(entries: list[Entry], file: str) -> list[Entry]:
    """Return those of the file that a sample names: what ends as its path does, furthest back.

    A process may have been started where files have other paths, so the whole path need not be
    the same, but its last component must. Names such as `<frozen abc>` say nothing.
    """
    if not file or file.startswith("<"):
        return entries
    alike = [max(_alike(entry.path, file), _alike(entry.compiled_as, file)) for entry in entries]
    most = max(alike, default=0)
    return [entry for entry, n in zip(entries, alike, strict=True) if n == most] if most else []


def _alike(one: str, other: str) -> int:
    """Return how many components at their ends two paths have in common."""
    count = 0
    for a, b in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False):
        if a != b:
            return count
        count += 1
    return count


def resolve_stream(
    samples: BinaryIO, output: TextIO, resolver: Resolver, as_json: bool = False
) -> None:
    """Write what is asked for, for each sample: as text a line for each frame, as JSON a sample.

    As text, a stack ends with an empty line. What came is written before more is waited for. A
    line that is no sample is counted, and the first one's error kept.
    """
    say = _json if as_json else _text
    number = 0
    for lines in _as_they_come(samples):
        texts = []
        for line in lines:
            number += 1
            if not line or line.isspace():
                continue
            try:
                sample = parse(line, number)
            except SampleError as error:
                resolver.counts.bad_lines += 1
                resolver.counts.first_bad_line = resolver.counts.first_bad_line or error.what
                continue
            texts.append(say(sample, resolver))
        output.writelines(texts)
        output.flush()


def _as_they_come(stream: BinaryIO) -> Iterator[list[str]]:
    rest = b""
    while chunk := stream.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
        lines, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield lines.decode("utf-8", "replace").split("\n")
    if rest:
        yield [rest.decode("utf-8", "replace")]


_CHUNK_BYTES: Final = 1 << 18


def _text(sample: dict[str, Any], resolver: Resolver) -> str:
    if "frames" not in sample:
        return f"{_look_up(sample, resolver)}\n"
    return "".join(f"{_look_up(frame, resolver)}\n" for frame in sample["frames"]) + "\n"


def _json(sample: dict[str, Any], resolver: Resolver) -> str:
    for frame in sample.get("frames", [sample]):
        frame.update(_look_up(frame, resolver).as_json())
    return json.dumps(sample) + "\n"


def _look_up(frame: dict[str, Any], resolver: Resolver) -> Resolved:
    get = frame.get
    return resolver.resolve(frame["identity"], frame["offset"], get("file", ""), get("python", ""))

"""Finds the lines of samples: `Resolver` looks up frames in indexes, `resolve_stream` a stream.

If no index has an identity, or if an offset is outside of the code, the result says so, and it is
counted. That is not an error.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple, TextIO

from bytecode_lines.code import Position
from bytecode_lines.errors import TableError
from bytecode_lines.identity import Identity
from bytecode_lines.index import Entry, Index
from bytecode_lines.samples import SampleError, parse

__all__ = ["Counts", "Resolved", "Resolver", "resolve_stream"]

CHANGED: Final = "the source has changed since it was compiled"


class Resolved(NamedTuple):
    """Where a frame is. Without a line, `note` says why; without a function, it is unknown."""

    file: str
    """The path of the source; for an unknown frame, that of the sample, which may be empty."""
    function: str
    """The qualified name; empty if no index has the identity."""
    position: Position
    note: str
    """A remark about the result, such as that other functions have the same identity."""

    def __str__(self) -> str:
        """Return `file:line function`, followed by a tab and the note if there is one."""
        line = "?" if self.position.line is None else self.position.line
        text = f"{self.file or '?'}:{line} {self.function or '?'}"
        return f"{text}\t{self.note}" if self.note else text

    def as_json(self) -> dict[str, Any]:
        """Return the keys that are added to a sample."""
        return {
            "file": self.file,
            "line": self.position.line,
            "function": self.function,
            "end_line": self.position.end_line,
            "column": self.position.column,
            "end_column": self.position.end_column,
            "note": self.note,
        }


@dataclass
class Counts:
    """How many frames were looked up, and how many of them were not resolved."""

    frames: int = 0
    unknown: int = 0
    """Frames whose identity no index has."""
    outside: int = 0
    """Frames whose offset is beyond the end of every code object with their identity."""
    ambiguous: int = 0
    """Frames whose identity several functions have, without a file that decides."""
    bad_lines: int = 0
    """Lines that were not samples."""
    first_bad_line: str = ""


class Resolver:
    """Looks up frames in one or more indexes, and caches the results, as samples repeat."""

    def __init__(self, indexes: Sequence[Index]) -> None:
        self.counts = Counts()
        self._indexes = indexes
        self._functions: dict[_Key, list[_Function]] = {}
        self._cached_ranges = 0
        # Different results for identities that several functions have.
        self._candidates: dict[tuple[_Key, int], list[Resolved]] = {}

    def resolve(
        self,
        identity: str,
        offset: int,
        file: str = "",
        python: str = "",
        function: str = "",
        table: str = "",
    ) -> Resolved:
        """Return where an instruction is; the arguments are as in a sample."""
        self.counts.frames += 1
        key = _Key(identity, file, python, function, table)
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
            return Resolved(file, function, Position(None), f"no index has {identity}")
        candidates = self._candidates.get((key, offset))
        if candidates is None:
            results = [function.at(offset) for function in functions]
            candidates = list({str(result): result for result in results if result}.values())
            if len(self._candidates) >= _MAX_CANDIDATES:
                self._candidates.clear()
            self._candidates[key, offset] = candidates
        return self._one_of(functions, candidates, offset)

    def _one_of(
        self, functions: list[_Function], candidates: list[Resolved], offset: int
    ) -> Resolved:
        if not candidates:
            return self._outside(functions[0], offset)
        first, *others = candidates
        if not others:
            return first
        self.counts.ambiguous += 1
        others_text = ", ".join(f"{x.file}:{x.position.line} {x.function}" for x in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        return Resolved(first.file, first.function, first.position, f"or {others_text}{more}")

    def _outside(self, function: _Function, offset: int) -> Resolved:
        self.counts.outside += 1
        entry = function.entry
        note = f"offset {offset} is outside of the code, of {entry.code_length} bytes"
        return Resolved(entry.path, entry.name, Position(None), note)

    def _find(self, key: _Key) -> list[_Function]:
        identity, file, python, function, table = key
        entries = [entry for index in self._indexes for entry in index.entries(identity)]
        entries = [entry for entry in entries if entry.python == python] if python else entries
        entries = [entry for entry in entries if _has_name(entry, function)]
        functions = [_Function(entry) for entry in _of_file(entries, file)]
        if not functions and table and python:
            functions = _of_table(key)
        # Limit the memory of the cache. What is removed is found again if it is needed.
        self._cached_ranges += _size(functions)
        while self._cached_ranges > _MAX_CACHED_RANGES and self._functions:
            self._cached_ranges -= _size(self._functions.pop(next(iter(self._functions))))
        return functions


class _Key(NamedTuple):
    """What a sample says of a code object."""

    identity: str
    file: str
    python: str
    function: str
    table: str


# These are the ranges of 20,000 code objects of the standard library, with 250 bytes each.
_MAX_CACHED_RANGES: Final = 1_000_000
_MAX_CANDIDATES: Final = 20_000


def _size(functions: list[_Function]) -> int:
    return 1 + sum(len(function.starts) for function in functions)


class _Function:
    """An entry of an index, with a cache of the results for its ranges."""

    __slots__ = ("_lines", "_results", "entry", "starts")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self._lines = entry.lines
        self.starts = array("I", [range.start for range in self._lines.ranges])
        self._results: list[Resolved | None] = [None] * len(self.starts)

    def at(self, offset: int) -> Resolved | None:
        """Return the position of an instruction; None if it is outside of the code."""
        lines = self._lines
        number = bisect_right(self.starts, offset) - 1
        if number < 0 or offset >= lines.ranges[number].end:
            # Before the code, beyond its end, or in a part that the table leaves out.
            return self._new(offset) if offset < lines.code_length else None
        implicit = lines.implicit_return
        if implicit is not None and offset >= implicit:
            return self._new(offset)
        result = self._results[number]
        if result is None:
            result = self._results[number] = self._new(offset)
        return result

    def _new(self, offset: int) -> Resolved:
        entry, position = self.entry, self._lines.at(offset)
        note = position.note
        if entry.changed:
            note = f"{note}; {CHANGED}" if note else CHANGED
        return Resolved(entry.path, entry.name, position, note)


def _of_table(key: _Key) -> list[_Function]:
    """Return the function whose line table the sample itself has; none if the table is damaged."""
    identity, file, python, function, table = key
    try:
        first_line = Identity.parse(identity).first_line
        entry = Entry(
            *(file, file, python, 0, function, first_line),
            *(bytes.fromhex(table), _UNKNOWN_LENGTH, None),
        )
        return [_Function(entry)]
    except (ValueError, TableError):
        return []


# Of code, in bytes. The offset of an instruction that ran is within the code.
_UNKNOWN_LENGTH: Final = 1 << 31


def _has_name(entry: Entry, function: str) -> bool:
    """Return whether an entry may be the function of a sample, whose name may not be qualified."""
    return not function or entry.name == function or entry.name.endswith(f".{function}")


def _of_file(entries: list[Entry], file: str) -> list[Entry]:
    """Return the entries whose paths have the longest common end with the path of a sample.

    A process may see its files at other paths, so the paths may differ, except for the last
    component. Names such as `<frozen abc>` are ignored. Code from `exec` has a name such as
    `<string>`, which no entry has.
    """
    if not file or file.startswith("<frozen "):
        return entries
    lengths = [
        max(_common_end(entry.path, file), _common_end(entry.compiled_as, file))
        for entry in entries
    ]
    longest = max(lengths, default=0)
    if not longest:
        return []
    return [entry for entry, n in zip(entries, lengths) if n == longest]


def _common_end(one: str, other: str) -> int:
    """Return how many components at the end of two paths are equal."""
    count = 0
    for a, b in zip(reversed(one.split("/")), reversed(other.split("/"))):
        if a != b:
            return count
        count += 1
    return count


def resolve_stream(
    samples: BinaryIO, output: TextIO, resolver: Resolver, as_json: bool = False
) -> None:
    """Write each sample: as text with a line for each frame, or as JSON with the keys added.

    In text, an empty line ends a stack. Results are written before this waits for more samples.
    Lines that are not samples are counted, and the error of the first one is kept.
    """
    render = _json if as_json else _text
    number = 0
    for lines in _available_lines(samples):
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
            texts.append(render(sample, resolver))
        output.writelines(texts)
        output.flush()


def _available_lines(stream: BinaryIO) -> Iterator[list[str]]:
    """Yield lists of the complete lines that can be read without waiting."""
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
    return resolver.resolve(
        *(frame["identity"], frame["offset"], get("file", ""), get("python", "")),
        *(get("function", ""), get("table", "")),
    )

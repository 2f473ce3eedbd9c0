"""Finds the lines of samples: `Resolver` looks up frames in indexes, `resolve_stream` a stream.

If no index has an identity, or if an offset is outside of the code, the result says so, and it is
counted. That is not an error.
"""

from __future__ import annotations

import functools
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple, TextIO, Tuple, Union

from bytecode_lines.code import Position, position_at
from bytecode_lines.errors import TableError
from bytecode_lines.identity import Identity
from bytecode_lines.index import Entry, File, Index
from bytecode_lines.samples import SampleError, parse
from bytecode_lines.tables import Format, decode

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
    """Looks up frames in one or more indexes, and keeps what it has found.

    Samples of the same code object are frequent, but there may be so many code objects that all of
    their lines, decoded, would not fit into memory. So a code object is kept with its line table as
    it is, which few samples decode up to their own offset. Only if there are more samples of it,
    its results are kept. After many code objects were looked up one by one, the rest is read at
    once, if that fits into memory.
    """

    def __init__(self, indexes: Sequence[Index]) -> None:
        self.counts = Counts()
        self._indexes = indexes
        # By the identity.
        self._functions: dict[str, tuple[_Function, ...]] = {}
        self._functions_bytes = 0
        self._all_are_read = False
        # By the identity, if that is all that a sample says of its code object.
        self._chosen: dict[str | _Key, _Chosen] = {}
        self._frequent: list[_Function] = []
        self._frequent_ranges = 0
        # The results for identities that several functions have, each with whether these differ.
        self._answers: dict[tuple[str | _Key, int], tuple[Resolved, bool]] = {}

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
        key: str | _Key = identity
        chosen: _Chosen | None
        if file or python or function:
            key = _Key(identity, file, python, function, table)
            chosen = self._chosen.get(key)
        else:
            functions = self._functions.get(identity)
            if functions is not None and len(functions) == 1:  # for speed
                chosen = functions[0]
            else:
                chosen = self._chosen.get(identity)
        if chosen is None:
            chosen = self._choose(key, _Key(identity, file, python, function, table))
        if isinstance(chosen, _Function):
            chosen.calls += 1
            if chosen.calls == _FREQUENT_CALLS:
                self._keep_results(chosen)
            return chosen.at(offset) or self._outside(chosen, offset)
        if not chosen:
            self.counts.unknown += 1
            return Resolved(file, function, Position(None), f"no index has {identity}")
        answer = self._answers.get((key, offset))
        if answer is None:
            answer = _one_of(chosen, offset)
            if answer is None:
                return self._outside(chosen[0].function, offset)
            if len(self._answers) >= _MAX_ANSWERS:
                self._answers.clear()
            self._answers[key, offset] = answer
        result, is_ambiguous = answer
        self.counts.ambiguous += is_ambiguous
        return result

    def _outside(self, function: _Function, offset: int) -> Resolved:
        self.counts.outside += 1
        entry = function.entry
        note = f"offset {offset} is outside of the code, of {entry.code_length} bytes"
        return Resolved(entry.file.path, entry.name, Position(None), note)

    def _choose(self, key: str | _Key, sample: _Key) -> _Chosen:
        identity, file, python, name, table = sample
        functions = self._functions.get(identity)
        if functions is None:
            functions = self._find(identity)
        if python:
            functions = tuple(each for each in functions if each.entry.file.python == python)
        if name:
            functions = tuple(each for each in functions if _has_name(each.entry, name))
        functions = _of_file(functions, file)
        if not functions and table and python:
            functions = _of_table(sample)
        chosen: _Chosen = functions[0] if len(functions) == 1 else _groups(functions)
        if len(self._chosen) >= _MAX_CHOSEN:
            self._chosen.clear()
        self._chosen[key] = chosen
        return chosen

    def _find(self, identity: str) -> tuple[_Function, ...]:
        if self._all_are_read:
            return ()
        if len(self._functions) >= _FEW_CODES:
            codes = sum(index.codes for index in self._indexes)
            read = len(self._functions) / codes if codes else 0
            if read >= _FEW_OF_ALL and codes * _CODE_BYTES <= _MAX_FUNCTIONS_BYTES:
                self._read_all()
                return self._functions.get(identity, ())
        functions = tuple(
            _Function(entry) for index in self._indexes for entry in index.entries(identity)
        )
        self._functions[identity] = functions
        # Limit the memory. What is removed is found again if it is needed.
        self._functions_bytes += _CODE_BYTES + sum(len(f.entry.table) for f in functions)
        if self._functions_bytes > _MAX_FUNCTIONS_BYTES:
            self._functions.clear()
            self._chosen.clear()
            self._functions_bytes = 0
            self._forget_results()
        return functions

    def _read_all(self) -> None:
        self._all_are_read = True
        known = self._functions
        self._functions = {}
        for index in self._indexes:
            for identity, entry in index.all_entries():
                if identity not in known:
                    others = self._functions.get(identity, ())
                    self._functions[identity] = (*others, _Function(entry))
        for identity, functions in self._functions.items():
            if len(functions) > 1:
                self._functions[identity] = tuple(sorted(functions, key=_Function.path_and_name))
        self._functions.update(known)

    def _keep_results(self, function: _Function) -> None:
        function.keep_results()
        self._frequent.append(function)
        self._frequent_ranges += len(function.starts)
        if self._frequent_ranges > _MAX_FREQUENT_RANGES:
            self._forget_results()

    def _forget_results(self) -> None:
        for function in self._frequent:
            function.forget_results()
        self._frequent.clear()
        self._frequent_ranges = 0


class _Key(NamedTuple):
    """What a sample says of a code object."""

    identity: str
    file: str
    python: str
    function: str
    table: str


_FREQUENT_CALLS: Final = 8
# A result of a frequent function takes about 300 bytes.
_MAX_FREQUENT_RANGES: Final = 150_000
# A code object that was found takes about this much, with an average line table.
_CODE_BYTES: Final = 600
_MAX_FUNCTIONS_BYTES: Final = 200_000_000
_MAX_CHOSEN: Final = 400_000
_MAX_ANSWERS: Final = 20_000
# To look up a code object takes as long as to read ten of them at once.
_FEW_CODES: Final = 2_000
_FEW_OF_ALL: Final = 0.03


_NO_RESULTS: Final[list[Resolved | None]] = []  # one for all, since it stays empty


class _Function:
    """An entry of an index, and the results for its ranges if there are many samples of it."""

    __slots__ = ("_results", "calls", "entry", "starts")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.calls = 0
        self.starts: Sequence[int] = ()
        self._results: list[Resolved | None] = _NO_RESULTS

    def path_and_name(self) -> tuple[str, str]:
        """Return that by which functions with the same identity are sorted."""
        return self.entry.file.path, self.entry.name

    def at(self, offset: int) -> Resolved | None:
        """Return the position of an instruction; None if it is outside of the code."""
        if offset >= self.entry.code_length:
            return None
        if not self.starts or offset < 0:
            return self._new(offset)
        number = bisect_right(self.starts, offset) - 1
        result = self._results[number]
        if result is None:
            result = self._results[number] = self._new(offset)
        return result

    def keep_results(self) -> None:
        """Keep the results from now on, one for each part of the code that has the same one."""
        lines = self.entry.lines
        ends = [lines.ranges[-1].end] if lines.ranges else []  # the rest has no line
        implicit = [] if lines.implicit_return is None else [lines.implicit_return]
        starts = {0, *(range.start for range in lines.ranges), *ends, *implicit}
        self.starts = array("I", sorted(starts))
        self._results = [None] * len(self.starts)

    def forget_results(self) -> None:
        """Return to the state at the beginning."""
        self.calls = 0
        self.starts = ()
        self._results = _NO_RESULTS

    def _new(self, offset: int) -> Resolved:
        file, name, first_line, table, _, implicit_return = self.entry
        position = position_at(table, file.version, first_line, implicit_return, offset)
        if file.changed:
            return self.with_position(position)
        return Resolved(file.path, name, position, position.note)

    def with_position(self, position: Position) -> Resolved:
        """Return the result for a position in this function."""
        file, name, *_ = self.entry
        note = position.note
        if file.changed:
            note = f"{note}; {CHANGED}" if note else CHANGED
        return Resolved(file.path, name, position, note)


class _Group(NamedTuple):
    """Functions with the same identity whose line tables are the same, too."""

    function: _Function
    """The first one. Its line table is decoded for all."""
    same: tuple[_Function, ...]
    """With that one. They have different paths or names."""


_Chosen = Union[_Function, Tuple[_Group, ...]]  # a tuple if there is none, or more than one


def _groups(functions: Iterable[_Function]) -> tuple[_Group, ...]:
    """Return groups of the functions; the result of those with the same path and name is one."""
    groups: dict[tuple[object, ...], dict[tuple[object, ...], _Function]] = {}
    for function in functions:
        file, name, *lines = function.entry
        same = groups.setdefault((_format(file.version), *lines), {})
        same.setdefault((file.path, name, file.changed), function)
    return tuple(
        _Group(next(iter(same.values())), tuple(same.values())) for same in groups.values()
    )


_format = functools.lru_cache(maxsize=None)(Format.of)


def _one_of(groups: Sequence[_Group], offset: int) -> tuple[Resolved, bool] | None:
    """Return the first result, and whether there are others; None if the offset is outside."""
    if len(groups) == 1:  # for speed: no two of a group have the same result
        [(function, same)] = groups
        first = function.at(offset)
        if first is None or len(same) == 1:
            return first and (first, False)
        line, count = first.position.line, len(same)
        names = [f"{x.entry.file.path}:{line} {x.entry.name}" for x in same[1 : 1 + _SHOWN_OTHERS]]
    else:
        found: dict[tuple[str, str, int | None, str], Resolved] = {}
        for function, same in groups:
            result = function.at(offset)
            if result is None:
                continue
            for other in same:
                new = other.with_position(result.position)
                found.setdefault((new.file, new.function, new.position.line, new.note), new)
        if not found:
            return None
        first, *others = sorted(found.values(), key=lambda x: (x.file, x.function))
        if not others:
            return first, False
        names = [f"{x.file}:{x.position.line} {x.function}" for x in others[:_SHOWN_OTHERS]]
        count = len(found)
    more = count - 1 - len(names)
    note = f"or {', '.join(names)}{f' and {more} more' if more else ''}"
    return Resolved(first.file, first.function, first.position, note), True


_SHOWN_OTHERS: Final = 3


def _of_table(sample: _Key) -> tuple[_Function, ...]:
    """Return the function whose line table the sample itself has; none if the table is damaged."""
    try:
        major, minor = sample.python.split(".")
        entry = Entry(
            File(sample.file, sample.file, (int(major), int(minor)), changed=False),
            sample.function,
            Identity.parse(sample.identity).first_line,
            bytes.fromhex(sample.table),
            _UNKNOWN_LENGTH,
            None,
        )
        decode(entry.table, entry.file.version, entry.first_line, entry.code_length)
    except (ValueError, TableError):
        return ()
    return (_Function(entry),)


# Of code, in bytes. The offset of an instruction that ran is within the code.
_UNKNOWN_LENGTH: Final = 1 << 31


def _has_name(entry: Entry, function: str) -> bool:
    """Return whether an entry may be the function of a sample, whose name may not be qualified."""
    return entry.name == function or entry.name.endswith(f".{function}")


def _of_file(functions: tuple[_Function, ...], file: str) -> tuple[_Function, ...]:
    """Return those whose paths have the longest common end with the path of a sample.

    A process may see its files at other paths, so the paths may differ, except for the last
    component. Names such as `<frozen abc>` are ignored. Code from `exec` has a name such as
    `<string>`, which no entry has.
    """
    if not file or file.startswith("<frozen "):
        return functions
    lengths = [
        max(_common_end(known.path, file), _common_end(known.compiled_as, file))
        for known in (function.entry.file for function in functions)
    ]
    longest = max(lengths, default=0)
    if not longest:
        return ()
    return tuple(function for function, length in zip(functions, lengths) if length == longest)


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
    if len(frame) == len(("identity", "offset")):  # for speed
        return resolver.resolve(frame["identity"], frame["offset"])
    get = frame.get
    return resolver.resolve(
        *(frame["identity"], frame["offset"], get("file", ""), get("python", "")),
        *(get("function", ""), get("table", "")),
    )

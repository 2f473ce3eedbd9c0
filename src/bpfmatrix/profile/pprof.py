"""Profiles for pprof: gzip-compressed protocol buffers.

The messages and the numbers of their fields are those of
https://github.com/google/pprof/blob/main/proto/profile.proto, and their encoding is described at
https://protobuf.dev/programming-guides/encoding. Only two of its types are needed, numbers and
length-delimited values.
"""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass, field

from bpfmatrix.profile.stacks import SourceLine, Stack

__all__ = ["render"]

_NUMBER, _BYTES = 0, 2  # wire types


def render(stacks: Iterable[Stack], title: str) -> bytes:
    """Return the file's content. Each sample has its thread, and perhaps its process, as labels."""
    tables = _Tables()
    samples = [_sample(stack, tables) for stack in stacks]
    profile = [
        # Profile.sample_type: a ValueType
        _message(1, _number(1, tables.string("samples")), _number(2, tables.string("count"))),
        *(_message(2, sample) for sample in samples),
        # Profile.mapping: names what was profiled, and says that no symbols are to be looked for.
        _message(3, _number(1, 1), _number(5, tables.string(title)), *map(_yes, (7, 8, 9))),
        *(_message(4, location) for location in tables.location_messages),
        *(_message(5, function) for function in tables.function_messages),
    ]
    # Profile.string_table comes last, when it is complete; the order of fields is free.
    profile += [_message(6, text.encode(errors="replace")) for text in tables.strings]
    # Without the time of compression, equal profiles are equal files.
    return gzip.compress(b"".join(profile), mtime=0)


@dataclass
class _Tables:
    """What samples refer to by numbers: strings from 0 on, locations and functions from 1 on."""

    strings: dict[str, int] = field(default_factory=lambda: {"": 0})
    locations: dict[SourceLine, int] = field(default_factory=dict)
    functions: dict[tuple[str, str], int] = field(default_factory=dict)
    location_messages: list[bytes] = field(default_factory=list)
    function_messages: list[bytes] = field(default_factory=list)

    def string(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def location(self, line: SourceLine) -> int:
        """Return the number of a Location with this line."""
        if line not in self.locations:
            number = self.locations[line] = len(self.locations) + 1
            of_function = _message(4, _number(1, self._function(line)), _number(2, line.number))
            # Location.id, mapping_id, line
            self.location_messages.append(_number(1, number) + _number(2, 1) + of_function)
        return self.locations[line]

    def _function(self, line: SourceLine) -> int:
        key = (line.file, line.function)
        if key not in self.functions:
            number = self.functions[key] = len(self.functions) + 1
            name = self.string(line.function or str(line))
            self.function_messages.append(
                _number(1, number) + _number(2, name) + _number(4, self.string(line.file))
            )
        return self.functions[key]


def _sample(stack: Stack, tables: _Tables) -> bytes:
    locations = b"".join(
        _varint(tables.location(line)) for line in reversed(stack.from_outermost())
    )
    labels = [_number(1, tables.string("thread")) + _number(3, stack.thread)]
    if stack.thread_name:
        name = tables.string(stack.thread_name)
        labels.append(_number(1, tables.string("thread name")) + _number(2, name))
    if stack.process:
        name = tables.string(stack.process)
        labels.append(_number(1, tables.string("process")) + _number(2, name))
    return b"".join(
        (
            _message(1, locations),  # Sample.location_id, packed, the innermost first
            _message(2, _varint(stack.count)),  # Sample.value, packed
            *(_message(3, label) for label in labels),  # Sample.label
        )
    )


def _message(field_number: int, *parts: bytes) -> bytes:
    """Return a field that holds a message, a string, or packed numbers."""
    content = b"".join(parts)
    return _varint(field_number << 3 | _BYTES) + _varint(len(content)) + content


def _number(field_number: int, value: int) -> bytes:
    return _varint(field_number << 3 | _NUMBER) + _varint(value)


def _yes(field_number: int) -> bytes:
    return _number(field_number, 1)


def _varint(value: int) -> bytes:
    """Return a number from 0 on in groups of seven bits, the lowest first."""
    if value < 0:
        raise ValueError(f"a negative number: {value}")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

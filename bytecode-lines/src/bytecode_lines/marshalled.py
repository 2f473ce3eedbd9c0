"""Reads marshalled code objects of CPython 2.7 to 3.14, in any version of Python.

The format is that of CPython's Python/marshal.c. Only code objects, strings, small integers and
None are kept, as no more is needed to find lines; all other constants become `...`. Unlike the
module `marshal`, this reads the formats of other versions, and is safe for damaged bytes. Unlike
xdis (6.3.0), it reads negative integers of more than 32 bits, slices, and references to any object.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

__all__ = ["MarshalError", "RawCode", "read", "read_values"]


class MarshalError(ValueError):
    """The bytes are not in the format of marshal."""


@dataclass(frozen=True)
class RawCode:
    """The fields of a code object, with their names in Python."""

    co_argcount: int
    co_kwonlyargcount: int
    co_flags: int
    co_code: bytes
    co_consts: tuple[Any, ...]
    co_filename: str
    co_name: str
    co_qualname: str
    """Empty before 3.11."""
    co_firstlineno: int
    co_linetable: bytes
    """In versions before 3.10, this is `co_lnotab`."""

    @property
    def co_lnotab(self) -> bytes:
        """The line table, under its name in versions before 3.10."""
        return self.co_linetable


def read(content: bytes, version: tuple[int, int]) -> RawCode:
    """Read a code object that a version of CPython has written; MarshalError if that fails."""
    code = _read(content, version)
    if not isinstance(code, RawCode):
        raise MarshalError("it holds no code object")
    return code


def read_values(content: bytes, version: tuple[int, int]) -> tuple[Any, ...]:
    """Read a list or tuple; of its values, small integers, strings and tuples are kept.

    MarshalError if that fails.
    """
    values = _read(content, version)
    if not isinstance(values, tuple):
        raise MarshalError("it holds no list")
    return values


def _read(content: bytes, version: tuple[int, int]) -> Any:
    try:
        return _Reader(content, version).value()
    except (struct.error, IndexError):
        raise MarshalError("it ends too early") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise MarshalError(str(error)) from None


_INT: Final = struct.Struct("<i")
_T = TypeVar("_T")
_NULL: Final = object()  # marks the end of a dictionary, and a reference that is not set yet
_FLAG_REF: Final = 0x80  # later objects may refer to this one


class _Reader:
    def __init__(self, content: bytes, version: tuple[int, int]) -> None:
        self._content = content
        self._version = version
        self._offset = 0
        self._references: list[Any] = []
        self._interned: list[Any] = []  # only in Python 2
        self._readers: dict[int, Callable[[], Any]] = {
            ord(kind): read for kind, read in self._kinds().items()
        }

    def value(self) -> Any:
        kind = self._content[self._offset]
        self._offset += 1
        reader = self._readers.get(kind & ~_FLAG_REF)
        if reader is None:
            raise MarshalError(f"unknown type {kind & ~_FLAG_REF:#x}")
        if not kind & _FLAG_REF:
            return reader()
        # The number of an object is lower than those of the objects within it.
        number = len(self._references)
        self._references.append(_NULL)
        value = self._references[number] = reader()
        return value

    def _kinds(self) -> dict[str, Callable[[], Any]]:
        return {
            "0": lambda: _NULL,
            "N": lambda: None,
            "F": lambda: ...,
            "T": lambda: ...,
            "S": lambda: ...,
            ".": lambda: ...,
            "i": self._int,
            "I": lambda: self._skip(8),
            "l": lambda: self._skip(2 * abs(self._int())),
            "f": lambda: self._skip(self._byte()),
            "g": lambda: self._skip(8),
            "x": lambda: (self._skip(self._byte()), self._skip(self._byte())),
            "y": lambda: self._skip(16),
            "s": lambda: self._take(self._int()),
            "u": lambda: self._take(self._int()).decode("utf-8", "surrogatepass"),
            "a": lambda: self._take(self._int()).decode("latin-1"),
            "A": lambda: self._take(self._int()).decode("latin-1"),
            "z": lambda: self._take(self._byte()).decode("latin-1"),
            "Z": lambda: self._take(self._byte()).decode("latin-1"),
            "t": self._interned_string,
            "R": lambda: self._interned[self._size()],
            "r": self._reference,
            "(": lambda: self._values(self._int()),
            ")": lambda: self._values(self._byte()),
            "[": lambda: self._values(self._int()),
            "<": lambda: self._values(self._int()),
            ">": lambda: self._values(self._int()),
            ":": lambda: self._values(3),
            "{": self._dictionary,
            "c": self._code,
        }

    def _int(self) -> int:
        (value,) = _INT.unpack_from(self._content, self._offset)
        self._offset += 4
        return cast(int, value)

    def _byte(self) -> int:
        self._offset += 1
        return self._content[self._offset - 1]

    def _size(self) -> int:
        value = self._int()
        if value < 0:
            raise MarshalError(f"it has a negative size, {value}")
        return value

    def _take(self, size: int) -> bytes:
        end = self._offset + size
        if size < 0 or end > len(self._content):
            raise MarshalError(f"it ends within a string of {size} bytes")
        data = self._content[self._offset : end]
        self._offset = end
        return data

    def _skip(self, size: int) -> Any:
        self._take(size)
        return ...

    def _values(self, count: int) -> tuple[Any, ...]:
        # Each object has at least one byte: this limits the memory for a damaged count.
        if not 0 <= count <= len(self._content) - self._offset:
            raise MarshalError(f"it ends within {count} objects")
        return tuple([self.value() for _ in range(count)])

    def _dictionary(self) -> Any:
        while self.value() is not _NULL:
            self.value()
        return ...

    def _interned_string(self) -> str | bytes:
        text = self._take(self._int())
        if self._version >= (3, 0):
            return text.decode("utf-8", "surrogatepass")
        self._interned.append(text)
        return text

    def _reference(self) -> Any:
        value = self._references[self._size()]
        if value is _NULL:
            raise MarshalError("an object refers to one that contains it")
        return value

    def _code(self) -> RawCode:
        version = self._version
        arguments = self._int()
        if version >= (3, 8):
            self._int()  # positional-only arguments, which co_argcount includes
        keyword_only = self._int() if version >= (3, 0) else 0
        if version < (3, 11):
            self._int()  # co_nlocals
        self._int()  # co_stacksize
        flags = self._int()
        code, consts = self._value_of(bytes), self._value_of(tuple)
        # The names of globals and attributes; then the names of variables: three tuples up to 3.10,
        # from 3.11 on one tuple and the kinds of the variables.
        for _ in range(3 if version >= (3, 11) else 4):
            self.value()
        filename, name = self._text(), self._text()
        qualified_name = self._text() if version >= (3, 11) else ""
        first_line = self._int()
        table = self._value_of(bytes)
        if version >= (3, 11):
            self.value()  # co_exceptiontable
        fields = (arguments, keyword_only, flags, code, consts, filename, name, qualified_name)
        return RawCode(*fields, first_line, table)

    def _value_of(self, kind: type[_T]) -> _T:
        value = self.value()
        if not isinstance(value, kind):
            raise MarshalError(f"a code object has {type(value).__name__} for {kind.__name__}")
        return value

    def _text(self) -> str:
        value = self.value()
        if isinstance(value, bytes):  # in Python 2
            return value.decode("utf-8", "surrogateescape")
        if not isinstance(value, str):
            raise MarshalError(f"a code object has {type(value).__name__} for a name")
        return value

"""Reads marshalled code objects of CPython 2.7 to 3.14, whichever Python this runs in.

The format is that of CPython's Python/marshal.c. What lines need is kept: code objects, their
strings, and None. All other constants become `...`. Unlike the module `marshal`, it reads what
other versions wrote, and is safe to use on damaged bytes; unlike xdis (6.3.0), it reads negative
integers of more than 32 bits, slices, and references to any object.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

__all__ = ["MarshalError", "RawCode", "read"]


class MarshalError(ValueError):
    """The bytes are not what marshal writes."""


@dataclass(frozen=True, slots=True)
class RawCode:
    """A code object's fields, with the names that Python gives them."""

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
        """The line table, for versions that call it so."""
        return self.co_linetable


def read(content: bytes, version: tuple[int, int]) -> RawCode:
    """Read the code object that a version of CPython wrote; MarshalError if that can't be."""
    reader = _Reader(content, version)
    try:
        code = reader.value()
    except (struct.error, IndexError):
        raise MarshalError("it ends too early") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise MarshalError(str(error)) from None
    if not isinstance(code, RawCode):
        raise MarshalError("it holds no code")
    return code


_INT: Final = struct.Struct("<i")
_T = TypeVar("_T")
_NULL: Final = object()  # ends a dictionary
_REFERABLE: Final = 0x80


class _Reader:
    def __init__(self, content: bytes, version: tuple[int, int]) -> None:
        self._content = content
        self._version = version
        self._at = 0
        self._references: list[Any] = []
        self._interned: list[Any] = []  # of Python 2
        self._readers: dict[int, Callable[[], Any]] = {
            ord(kind): read for kind, read in self._kinds().items()
        }

    def value(self) -> Any:
        kind = self._content[self._at]
        self._at += 1
        reader = self._readers.get(kind & ~_REFERABLE)
        if reader is None:
            raise MarshalError(f"there is no type {kind & ~_REFERABLE:#x}")
        if not kind & _REFERABLE:
            return reader()
        # An object comes before those within it.
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
            "i": lambda: self._skip(4),
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
        (value,) = _INT.unpack_from(self._content, self._at)
        self._at += 4
        return cast(int, value)

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _size(self) -> int:
        value = self._int()
        if value < 0:
            raise MarshalError(f"there is a size of {value}")
        return value

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if size < 0 or end > len(self._content):
            raise MarshalError(f"it ends within a string of {size} bytes")
        taken = self._content[self._at : end]
        self._at = end
        return taken

    def _skip(self, size: int) -> Any:
        self._take(size)
        return ...

    def _values(self, count: int) -> tuple[Any, ...]:
        # Each takes a byte at least, so a damaged count takes no more memory than the file.
        if not 0 <= count <= len(self._content) - self._at:
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
            raise MarshalError("an object refers to one that it is in")
        return value

    def _code(self) -> RawCode:
        version = self._version
        arguments = self._int()
        if version >= (3, 8):
            self._int()  # positional-only ones, which co_argcount has too
        keyword_only = self._int() if version >= (3, 0) else 0
        if version < (3, 11):
            self._int()  # co_nlocals
        self._int()  # co_stacksize
        flags = self._int()
        code, consts = self._of(bytes), self._of(tuple)
        # Names: of globals and attributes; then of variables, in three tuples, or with their kinds.
        for _ in range(3 if version >= (3, 11) else 4):
            self.value()
        filename, name = self._text(), self._text()
        qualified_name = self._text() if version >= (3, 11) else ""
        first_line = self._int()
        table = self._of(bytes)
        if version >= (3, 11):
            self.value()  # co_exceptiontable
        fields = (arguments, keyword_only, flags, code, consts, filename, name, qualified_name)
        return RawCode(*fields, first_line, table)

    def _of(self, kind: type[_T]) -> _T:
        value = self.value()
        if not isinstance(value, kind):
            raise MarshalError(f"a code object has {type(value).__name__} for {kind.__name__}")
        return value

    def _text(self) -> str:
        value = self.value()
        if isinstance(value, bytes):  # of Python 2
            return value.decode("utf-8", "surrogateescape")
        if not isinstance(value, str):
            raise MarshalError(f"a code object has {type(value).__name__} for a name")
        return value

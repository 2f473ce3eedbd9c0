"""Keys and values of maps as text: by the types in their BTF, or as numbers and bytes.

It does not need gdb: `dump.py` reads the types from the kernel's `struct btf`. Their format is that
of the kernel's Documentation/bpf/btf.rst.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Types", "plain"]

_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FLOAT, _ENUM64 = 1, 3, 4, 5, 6, 8, 16, 19
# Kinds that only stand for another type: typedef, volatile, const, restrict, type tag.
_MODIFIERS = frozenset({_TYPEDEF, 9, 10, 11, 18})
_POINTER = 2
# Global variables of one section, each of which is a VAR.
_VAR, _DATASEC = 14, 15
# Bits of an integer's encoding.
_SIGNED, _CHAR, _BOOL = 1, 2, 4
_DEEPEST = 16
# The most elements of an array that are shown.
_MOST = 32


@dataclass(frozen=True)
class Types:
    """The types of a BTF."""

    read: Callable[[int, int], bytes]
    """Returns so many bytes from the `struct btf_type` of this number on."""
    string: Callable[[int], str]
    """Returns the string at this offset."""
    order: str = "<"
    """The order of bytes, as in `struct`: `<` or `>`."""

    def text(self, id: int, data: bytes, deep: int = 0) -> str:
        """Return the content of a variable of a type."""
        _, info, size = struct.unpack(f"{self.order}III", self.read(id, 12))
        kind, count, is_bits = (info >> 24) & 0x1F, info & 0xFFFF, bool(info >> 31)
        if deep > _DEEPEST or not id:
            return plain(data, self.order)
        if kind in _MODIFIERS:
            return self.text(size, data, deep + 1)
        if kind in (_STRUCT, _UNION):
            return self._struct(id, count, data[:size], is_bits, deep)
        if kind in (_ARRAY, _DATASEC):
            is_array = kind == _ARRAY
            return self._array(id, data, deep) if is_array else self._section(id, count, data, deep)
        if kind in (_ENUM, _ENUM64):
            return self._enum(id, kind, count, data[:size])
        return self._single(id, kind, data[: 8 if kind == _POINTER else size])

    def _single(self, id: int, kind: int, data: bytes) -> str:
        if kind == _INT:
            return self._integer(id, data)
        if kind == _POINTER:
            return f"{self._number(data):#x}"
        if kind == _FLOAT and len(data) in (4, 8):
            (number,) = struct.unpack(f"{self.order}{'f' if len(data) == 4 else 'd'}", data)
            return str(number)
        return plain(data, self.order)

    def _number(self, data: bytes, *, signed: bool = False) -> int:
        return int.from_bytes(data, "little" if self.order == "<" else "big", signed=signed)

    def _integer(self, id: int, data: bytes) -> str:
        (encoding,) = struct.unpack(f"{self.order}I", self.read(id, 16)[12:])
        flags = encoding >> 24
        number = self._number(data, signed=bool(flags & _SIGNED))
        return str(bool(number)).lower() if flags & _BOOL else str(number)

    def _struct(self, id: int, count: int, data: bytes, is_bits: bool, deep: int) -> str:
        members = self.read(id, 12 + 12 * count)[12:]
        words = []
        for name, type, offset in struct.iter_unpack(f"{self.order}III", members):
            # With bit fields, the upper byte of the offset is the size in bits.
            width, bits = (offset >> 24, offset & 0xFFFFFF) if is_bits else (0, offset)
            if width:
                text = str(self._bit_field(data, bits, width))
            else:
                text = self.text(type, data[bits // 8 :], deep + 1)
            words.append(f".{self.string(name)} = {text}" if name else text)
        return f"{{{', '.join(words)}}}"

    def _section(self, id: int, count: int, data: bytes, deep: int) -> str:
        words = []
        variables = self.read(id, 12 + 12 * count)[12:]
        for variable, offset, size in struct.iter_unpack(f"{self.order}III", variables):
            name, _, type = struct.unpack(f"{self.order}III", self.read(variable, 12))
            text = self.text(type, data[offset : offset + size], deep + 1)
            words.append(f"{self.string(name)} = {text}")
        return ", ".join(words)

    def _bit_field(self, data: bytes, bits: int, width: int) -> int:
        number = self._number(data)
        shift = bits if self.order == "<" else len(data) * 8 - bits - width
        return (number >> shift) & ((1 << width) - 1)

    def _array(self, id: int, data: bytes, deep: int) -> str:
        type, _, count = struct.unpack(f"{self.order}III", self.read(id, 24)[12:])
        size = self._size(type)
        if size == 1 and (text := _string(data[:count])) is not None:
            return text
        shown = min(count, _MOST)
        items = [self.text(type, data[n * size : (n + 1) * size], deep + 1) for n in range(shown)]
        return f"[{', '.join([*items, *(['...'] if shown < count else [])])}]"

    def _size(self, id: int) -> int:
        for _ in range(_DEEPEST):
            _, info, size = struct.unpack(f"{self.order}III", self.read(id, 12))
            kind = (info >> 24) & 0x1F
            if kind == _POINTER:
                return 8
            if kind == _ARRAY:
                type, _, count = struct.unpack(f"{self.order}III", self.read(id, 24)[12:])
                return int(count) * self._size(type)
            if kind not in _MODIFIERS:
                return int(size)
            id = size
        return 0

    def _enum(self, id: int, kind: int, count: int, data: bytes) -> str:
        each = 8 if kind == _ENUM else 12
        number = self._number(data)
        table = self.read(id, 12 + each * count)[12:]
        for at in range(0, len(table), each):
            name, low = struct.unpack_from(f"{self.order}II", table, at)
            high = struct.unpack_from(f"{self.order}I", table, at + 8)[0] if each == 12 else 0
            if number == low | high << 32:
                return self.string(name)
        return str(number)


def _string(data: bytes) -> str | None:
    """Return bytes as a string in quotes, or None if they are none."""
    text, _, rest = data.partition(b"\0")
    if rest.strip(b"\0") or not text.isascii() or not text.decode().isprintable():
        return None
    return f'"{text.decode()}"'


def plain(data: bytes, order: str = "<") -> str:
    """Return bytes of which no type is known: as a number if they may be one."""
    if len(data) in (1, 2, 4, 8):
        return str(int.from_bytes(data, "little" if order == "<" else "big"))
    return data.hex(" ")

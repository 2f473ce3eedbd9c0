"""The identity of a code object, which eBPF can compute from its fields in bounded work.

This text defines it for implementations in C, too. Two code objects have the same identity if these
five numbers are equal:

    first_line      co_firstlineno        int
    arguments       co_argcount           int, with the positional-only ones, without *args
    keyword_only    co_kwonlyargcount     int, 0 in Python 2, which has no such field
    flags           co_flags & ~0x100     int
    hash            of the line table     64 bits, unsigned

The bit 0x100 (CO_ITERABLE_COROUTINE) is cleared because `types.coroutine` sets it at run time, in a
copy of the code object. The other fields do not change while the process lives.

The line table is the bytes object in the field `co_lnotab` (up to 3.9) or `co_linetable` (from
3.10 on). On a 64-bit machine, in a build with the GIL and without Py_TRACE_REFS, its length
`ob_size` has 8 bytes at offset 16, and its bytes start at offset 32. The hash is FNV-1a of 64 bits
over 68 bytes: the length of the table as 4 bytes, little-endian, and the first 64 bytes of the
table, padded with zeros if the table is shorter. In C:

    __u8 bytes[68] = {};
    *(__u32 *)bytes = length;                     // on a little-endian machine
    bpf_probe_read_user(bytes + 4, length < 64 ? length : 64, table + 32);
    __u64 hash = 0xcbf29ce484222325;
    for (int i = 0; i < 68; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3; // modulo 2 to the power of 64

The text form has the numbers, separated by colons: four decimal numbers, then the hash as 16
lower-case hexadecimal digits. That of a function in line 12 with one argument may be
`12:1:0:3:9ae16a3b2f90404f`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["HASHED_BYTES", "IGNORED_FLAGS", "Identity", "table_hash"]

HASHED_BYTES: Final = 64
IGNORED_FLAGS: Final = 0x100

# FNV-1a's parameters for 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/
_OFFSET_BASIS = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = 0xFFFFFFFFFFFFFFFF


class Identity(NamedTuple):
    """Identifies a code object without its bytecode; see the docstring of this module."""

    first_line: int
    arguments: int
    keyword_only: int
    flags: int
    hash: int

    def __str__(self) -> str:
        """Return the text form, which samples have."""
        return (
            f"{self.first_line}:{self.arguments}:{self.keyword_only}:{self.flags}:{self.hash:016x}"
        )

    @classmethod
    def of(
        cls, first_line: int, arguments: int, keyword_only: int, flags: int, table: bytes
    ) -> Identity:
        """Compute it from a code object's fields and its whole line table."""
        return cls(first_line, arguments, keyword_only, flags & ~IGNORED_FLAGS, table_hash(table))

    @classmethod
    def parse(cls, text: str) -> Identity:
        """Parse the text form; ValueError if the text is not an identity."""
        *numbers, digits = text.split(":")
        if len(numbers) != 4 or len(digits) != 16:
            raise ValueError(f"not an identity: {text!r}")
        first_line, arguments, keyword_only, flags = map(int, numbers)
        return cls(first_line, arguments, keyword_only, flags, int(digits, 16))


def table_hash(table: bytes) -> int:
    """Return the 64-bit FNV-1a hash of the length and the first 64 bytes of a line table."""
    value = _OFFSET_BASIS
    head = table[:HASHED_BYTES].ljust(HASHED_BYTES, b"\0")
    for byte in len(table).to_bytes(4, "little") + head:
        value = ((value ^ byte) * _PRIME) & _MASK
    return value

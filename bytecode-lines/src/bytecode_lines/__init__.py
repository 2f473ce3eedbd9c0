"""Turns bytecode offsets in CPython processes into lines of source.

A tracer in the kernel sees which code object a frame runs, and the offset of its last instruction.
The module `identity` defines how the tracer identifies the code object. The rest of this package
finds the line for an identity and an offset.
"""

from __future__ import annotations

from bytecode_lines.code import Code, LineMap, Position, lines_of, walk
from bytecode_lines.errors import BytecodeLinesError, PycError, TableError
from bytecode_lines.identity import Identity
from bytecode_lines.index import Index, build
from bytecode_lines.resolve import Resolved, Resolver
from bytecode_lines.tables import Range, decode

__all__ = [
    "BytecodeLinesError",
    "Code",
    "Identity",
    "Index",
    "LineMap",
    "Position",
    "PycError",
    "Range",
    "Resolved",
    "Resolver",
    "TableError",
    "build",
    "decode",
    "lines_of",
    "walk",
]

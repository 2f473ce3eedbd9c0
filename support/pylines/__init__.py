"""Turns bytecode offsets in CPython processes into lines of source.

A tracer in the kernel sees which code object a frame runs, and the offset of its last instruction.
The module `identity` defines how the tracer identifies the code object. The rest of this package
finds the line for an identity and an offset.
"""

from pylines.code import Code, LineMap, Position, lines_of, walk
from pylines.errors import PylinesError
from pylines.identity import Identity
from pylines.index import Index, build
from pylines.resolve import Resolved, Resolver

__all__ = [
    "Code",
    "Identity",
    "Index",
    "LineMap",
    "Position",
    "PylinesError",
    "Resolved",
    "Resolver",
    "build",
    "lines_of",
    "walk",
]

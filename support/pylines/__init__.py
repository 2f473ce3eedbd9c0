"""From a bytecode offset in a CPython process to a line of source.

A tracer in the kernel sees which code object a frame runs and the offset of its last instruction.
`identity` says how it names the code object; the rest of this package turns the two into lines.
"""

from pylines.code import Code, LineMap, Place, lines_of, walk
from pylines.errors import PylinesError
from pylines.identity import Identity
from pylines.index import Index, build
from pylines.resolve import Resolved, Resolver

__all__ = [
    "Code",
    "Identity",
    "Index",
    "LineMap",
    "Place",
    "PylinesError",
    "Resolved",
    "Resolver",
    "build",
    "lines_of",
    "walk",
]

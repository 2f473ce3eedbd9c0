"""From a bytecode offset in a CPython process to a line of source.

A tracer in the kernel sees which code object a frame runs and the offset of its last instruction.
`identity` says how it names the code object; the rest of this package turns the two into lines.
"""

from pylines.identity import Identity

__all__ = ["Identity"]

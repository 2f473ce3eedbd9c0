"""The samples of a recording, as the tracer prints them: JSON lines.

The comment at the top of support/cmd/python-tracer/main.go describes the lines. `read` takes their
file and gives `Samples`, in which a stack is a list of frames again. Deep stacks have millions of
frames, but few distinct ones, so a stack has the numbers of its frames.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError

__all__ = ["Code", "Frame", "SampledStack", "Samples", "read"]


@dataclass(frozen=True)
class Code:
    """A code object, and what the process itself says of it."""

    identity: str
    """As bytecode-lines defines it."""
    file: str = ""
    """Its co_filename; empty if it could not be read."""
    function: str = ""
    """Its co_qualname, before 3.11 its co_name; empty if it could not be read."""
    table: str = ""
    """Its line table in hexadecimal digits; empty if it could not be read."""


@dataclass(frozen=True)
class Frame:
    """An instruction of a code object."""

    code: Code
    offset: int
    """In bytes."""


@dataclass(frozen=True)
class SampledStack:
    """A stack of one thread, and how many samples have it."""

    frames: tuple[int, ...]
    """Indices of `Samples.frames`, the innermost frame first."""
    count: int
    thread: int
    process: int
    """The process's id in the guest."""
    process_name: str
    """A name for people; several processes can't have the same one at the same time."""
    truncated: str
    """Why outer frames are missing; empty if none are."""


@dataclass(frozen=True)
class Samples:
    """All samples of a recording."""

    frames: tuple[Frame, ...]
    """Each distinct frame."""
    stacks: tuple[SampledStack, ...]


def read(path: Path) -> Samples:
    """Read the file of a recording; BpfmatrixError if the tracer can't have printed it."""
    reader = _Reader()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                reader.add(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BpfmatrixError(
                    f"{path}: line {number} is not one of the tracer: {error}", "Profile again."
                ) from None
    return Samples(tuple(reader.frames), tuple(reader.stacks))


class _Reader:
    def __init__(self) -> None:
        self.frames: dict[Frame, int] = {}
        self.stacks: list[SampledStack] = []
        self._codes: dict[int, Code] = {}
        self._parts: dict[int, tuple[int, ...]] = {}

    def add(self, line: dict[str, Any]) -> None:
        """Add a line; KeyError, TypeError, ValueError or AttributeError if it is malformed."""
        [(kind, value)] = line.items()
        match kind:
            case "code":
                number = value.pop("number")
                self._codes[number] = Code(**value)
            case "part":
                self._parts[value["number"]] = tuple(
                    self._frame(code, offset) for code, offset in value["frames"]
                )
            case "stack":
                frames = tuple(frame for part in value["parts"] for frame in self._parts[part])
                truncated = value.get("truncated", "")
                count, tid, pid, name = (value[key] for key in ("count", "tid", "pid", "process"))
                self.stacks.append(SampledStack(frames, count, tid, pid, name, truncated))
            case _:
                raise ValueError(kind)

    def _frame(self, code: int, offset: int) -> int:
        return self.frames.setdefault(Frame(self._codes[code], offset), len(self.frames))

"""The samples of a recording, as the tracer prints them: JSON lines.

The comment at the top of support/cmd/python-tracer/main.go describes the lines. `read` takes their
file and gives `Samples`, in which a stack is a list of frames again. Deep stacks have millions of
frames, but few distinct ones, so a stack has the numbers of its frames.

A line that can't be read is left out, and so are those that refer to it: one of them must not cost
the others.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Code", "Frame", "LostSamples", "SampledStack", "Samples", "read"]


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
    thread_name: str = ""
    """The kernel's name of the thread (comm), which is the process's if none was given to it."""


@dataclass(frozen=True)
class LostSamples:
    """Samples of a process whose stacks were lost, but for the innermost frame."""

    frame: int
    """An index of `Samples.frames`."""
    count: int
    process_name: str


@dataclass(frozen=True)
class Samples:
    """All samples of a recording."""

    frames: tuple[Frame, ...]
    """Each distinct frame."""
    stacks: tuple[SampledStack, ...]
    lost: tuple[LostSamples, ...] = ()
    unread: int = 0
    """The number of lines that are none of the tracer."""
    first_unread: str = ""
    """Why the first of these can't be read."""


def read(path: Path) -> Samples:
    """Read the file of a recording."""
    reader, unread, first_unread = _Reader(), 0, ""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                reader.add(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                unread += 1
                first_unread = first_unread or f"line {number}: {error!r}"
    lost = tuple(reader.lost)
    return Samples(tuple(reader.frames), tuple(reader.stacks), lost, unread, first_unread)


class _Reader:
    def __init__(self) -> None:
        self.frames: dict[Frame, int] = {}
        self.stacks: list[SampledStack] = []
        self.lost: list[LostSamples] = []
        self._codes: dict[int, Code] = {}
        self._parts: dict[int, tuple[int, ...]] = {}

    def add(self, line: dict[str, Any]) -> None:
        """Add a line; KeyError, TypeError, ValueError or AttributeError if it is malformed."""
        [(kind, value)] = line.items()
        match kind:
            case "code":
                number = value.pop("number")
                if not all(isinstance(text, str) for text in value.values()):
                    raise TypeError("a code object has texts")
                self._codes[number] = Code(**value)
            case "part":
                self._parts[value["number"]] = tuple(
                    self._frame(code, offset) for code, offset in value["frames"]
                )
            case "stack":
                frames = tuple(frame for part in value["parts"] for frame in self._parts[part])
                truncated = value.get("truncated", "")
                count, tid, pid, name = (value[key] for key in ("count", "tid", "pid", "process"))
                stack = SampledStack(frames, count, tid, pid, name, truncated, value["comm"])
                self.stacks.append(stack)
            case "lost":
                frame = self._frame(value["code"], value["offset"])
                self.lost.append(LostSamples(frame, _integer(value["count"]), value["process"]))
            case _:
                raise ValueError(kind)

    def _frame(self, code: int, offset: int) -> int:
        frame = Frame(self._codes[code], _integer(offset))
        return self.frames.setdefault(frame, len(self.frames))


def _integer(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no integer")
    return value

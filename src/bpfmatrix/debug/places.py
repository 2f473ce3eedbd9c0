"""Places where gdb stops that are no functions and lines of the kernel: rejections, and programs.

A place is a word of the command line, `--break`. Those of a program are an instruction,
`insn:37` or `insn:PROGRAM:37`, and a line of the source from which it was compiled,
`exec.bpf.c:76`.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import UsageError

__all__ = [
    "REJECTION",
    "ProgramPlace",
    "check_forms",
    "has_source",
    "in_program",
    "line_of_program",
    "shown_alone",
]

REJECTION = "rejection"
"""The place where the verifier says why it rejects a program."""

# The names of functions in C, as loaders pass them to the kernel: 15 characters at most.
_INSTRUCTION = re.compile(r"insn:(?:(?P<program>[\w.]+):)?(?P<number>\d+)$")
# `line:` says that it is a program's even if the kernel has a file of that name.
_LINE = re.compile(r"(?P<explicit>line:)?(?P<file>[^:]+\.\w+):(?P<number>\d+)$")

_FORMS = {
    "insn:": "insn:NUMBER or insn:PROGRAM:NUMBER, such as insn:37; numbers begin with 0",
    "line:": "line:FILE:LINE, such as line:exec.bpf.c:76",
}

# Folders that have no sources of the project, or far too many files.
_LEFT_OUT = frozenset({"node_modules", "target", "venv", "__pycache__"})
_MOST_FILES = 50_000


@dataclass(frozen=True)
class ProgramPlace:
    """An instruction of eBPF programs, or a line of their source."""

    instruction: int | None = None
    """The number of the instruction; None if it is a line."""
    program: str = ""
    """The program's name; empty for all programs."""
    file: str = ""
    """The end of the path of the source file, in whole parts."""
    line: int = 0

    def __str__(self) -> str:
        """Return it in the form that `in_program` reads."""
        if self.instruction is None:
            return f"line:{self.file}:{self.line}"
        return f"insn:{f'{self.program}:' if self.program else ''}{self.instruction}"


def check_forms(names: Iterable[str]) -> None:
    """Raise UsageError for the first name that can be no place at all, with its right form."""
    for name in names:
        if not name.strip():
            raise UsageError(
                "--break needs a place, and has an empty one",
                "Name a function, FILE:LINE, insn:NUMBER or rejection; without --break, gdb stops "
                "at the verifier's entry.",
            )
        for prefix, forms in _FORMS.items():
            if name.startswith(prefix) and not in_program(name):
                raise UsageError(f"--break {name}: expected {forms}")


def in_program(name: str) -> ProgramPlace | None:
    """Return the place in a program that `--break` names without doubt, or None."""
    if found := _INSTRUCTION.match(name):
        return ProgramPlace(int(found["number"]), found["program"] or "")
    place = line_of_program(name)
    return place if place and name.startswith("line:") else None


def line_of_program(name: str) -> ProgramPlace | None:
    """Return the line of a program's source that `FILE:LINE` may be, or None."""
    found = _LINE.match(name)
    return ProgramPlace(file=found["file"], line=int(found["number"])) if found else None


def shown_alone(breakpoints: Iterable[str]) -> bool:
    """Whether any of the breakpoints says by itself what has stopped there."""
    return any(name == REJECTION or in_program(name) for name in breakpoints)


def has_source(file: str, root: Path, objects: Sequence[Path]) -> bool:
    """Whether a project has a source file of this name, or an object was compiled from one.

    An object names its sources in its BTF, with the paths that the compiler was given.
    """
    if any(_mentions(path, Path(file).name.encode()) for path in objects):
        return True
    ending, seen = f"/{file}", 0
    for folder, folders, files in os.walk(root):
        folders[:] = [one for one in folders if one not in _LEFT_OUT and not one.startswith(".")]
        if any(f"{folder}/{one}".endswith(ending) for one in files):
            return True
        seen += len(files)
        if seen > _MOST_FILES:
            return False
    return False


def _mentions(path: Path, name: bytes) -> bool:
    try:
        return name + b"\0" in path.read_bytes()
    except OSError:
        return False

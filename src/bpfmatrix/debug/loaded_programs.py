"""What the programs that are to be loaded have: their instructions, and the lines of their source.

A place of `--break` that none of them has is told before a machine boots.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.debug.places import ProgramPlace, in_program
from bpfmatrix.errors import UsageError
from bpfmatrix.verify import line_info
from bpfmatrix.verify.objects import ObjectError, inspect

__all__ = ["LoadedPrograms", "check", "of_objects"]

# As many bytes of a program's name as the kernel keeps: BPF_OBJ_NAME_LEN, without the zero.
_KERNEL_NAME = 15
_NAMED = 12


@dataclass(frozen=True)
class LoadedPrograms:
    """The programs of object files that are to be loaded."""

    most_instructions: Mapping[str, int]
    """By the program's name, how many instructions it can have in the kernel: its own, and those
    of all functions of its object that are no programs. A loader appends those that it calls."""
    last_lines: Mapping[str, int] = field(default_factory=dict)
    """The last line with an instruction, by source file; empty if an object has no lines."""


def of_objects(objects: Iterable[tuple[Path, Sequence[str]]]) -> LoadedPrograms | None:
    """Return what objects have, each with the names of its programs; None if one can't be read."""
    most: dict[str, int] = {}
    last: dict[str, int] = {}
    lines_are_known = True
    for path, programs in objects:
        sizes = line_info.sizes(path)
        try:
            others = inspect(path, path.name).programs
        except ObjectError:
            return None
        if not sizes.keys() >= {*programs}:
            return None
        appended = sum(size for name, size in sizes.items() if name not in others)
        for name in programs:
            most[name] = max(sizes[name] + appended, most.get(name, 0))
        lines = line_info.last_lines(path)
        lines_are_known &= bool(lines)
        for file, line in lines.items():
            last[file] = max(line, last.get(file, 0))
    return LoadedPrograms(most, last if lines_are_known else {})


def check(breakpoints: Iterable[str], programs: LoadedPrograms) -> None:
    """Raise UsageError for the first place that no program has, with what there is.

    `breakpoints` are as `Gdb.resolve` returns them, so that a line of a program says so.
    """
    for name in breakpoints:
        if place := in_program(name):
            if place.instruction is None:
                _check_line(name, place, programs.last_lines)
            else:
                _check_instruction(name, place, programs.most_instructions)


def _check_instruction(name: str, place: ProgramPlace, most: Mapping[str, int]) -> None:
    assert place.instruction is not None
    wanted = place.program[:_KERNEL_NAME]
    meant = {one: count for one, count in most.items() if wanted in ("", one[:_KERNEL_NAME])}
    if not meant:
        raise UsageError(
            f"--break {name}: no program is called {place.program}",
            f"These are to be loaded: {_listed(most)}.",
        )
    if place.instruction >= max(meant.values()):
        has = ", ".join(f"{one} has {count}" for one, count in list(meant.items())[:_NAMED])
        raise UsageError(
            f"--break {name}: no program has so many instructions",
            f"They are counted from 0: {has}.",
        )


def _check_line(name: str, place: ProgramPlace, last_lines: Mapping[str, int]) -> None:
    if not last_lines:
        return
    ending = f"/{place.file}"
    last = [line for file, line in last_lines.items() if f"/{file}".endswith(ending)]
    if not last:
        raise UsageError(
            f"--break {name}: no program was compiled from {place.file}",
            f"Those to be loaded were compiled from {_listed(last_lines)}.",
        )
    if place.line > max(last):
        raise UsageError(
            f"--break {name}: no program has an instruction of this line, or of one behind it",
            f"The last line of {place.file} with an instruction is {max(last)}.",
        )


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return ", ".join(found[:_NAMED]) + more

"""The verifier's log beside the lines of C source: a rejection explained, a program annotated.

Both functions take a log, and the line information of the object's BTF: the source lines, each with
the first of the instructions that were compiled from it.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.verify import verifierlog
from bpfmatrix.verify.verifierlog import LineInfo

__all__ = ["AnnotatedLine", "AnnotatedProgram", "Explanation", "annotate", "explain", "shown_file"]

_SHOWN_LINES = 4
# Up to so many lines without instructions are shown between two lines that have some.
_GAP = 6


@dataclass(frozen=True)
class Explanation:
    """A rejection in a few lines."""

    text: str
    source: str
    """The `file:line` of the instruction that was rejected; empty if it is not known."""


def explain(log: str, lines: Sequence[LineInfo], folders: Sequence[Path] = ()) -> Explanation:
    """Explain a rejection: the last source lines, the instruction, its registers, the message.

    `folders` are where the source files may be. Without `lines`, those of the log are used.
    """
    found = verifierlog.rejection(log)
    known = sorted(lines or verifierlog.lines_of(log.splitlines()), key=lambda one: one.instruction)
    walked = [line for line in (_at(known, number) for number in found.walked) if line]
    # Each line is shown once, in the order in which the verifier last walked it.
    last = list(dict.fromkeys(reversed([(one.file, one.line, one.text) for one in walked])))
    shown = [
        (_place(shown_file(file, folders), number), text)
        for file, number, text in reversed(last[:_SHOWN_LINES])
    ]
    width = max((len(place) for place, _ in shown), default=0)
    output = [f"{place:<{width}}  {text.strip()}".strip() for place, text in shown]
    if found.instruction is not None:
        output.append(f"  {found.instruction}: {found.disassembly}")
    output += [f"  {name}={state}" for name, state in (found.registers or {}).items()]
    output += found.message
    return Explanation("\n".join(output), shown[-1][0] if shown else "")


def _at(lines: Sequence[LineInfo], instruction: int) -> LineInfo | None:
    position = bisect_right(lines, instruction, key=lambda one: one.instruction)
    return lines[position - 1] if position else None


def _place(file: str, line: int) -> str:
    return f"{file}:{line}" if file and line else file


def shown_file(file: str, folders: Sequence[Path]) -> str:
    """Return the path of a source file to show, relative to the first of the folders if possible.

    `file` is the path in the BTF, which may be relative to the folder of the compiler. The BTF does
    not say which folder that was, so the file is looked for in `folders`.
    """
    found = _on_disk(file, folders)
    if found is None:
        return file
    return str(found.relative_to(folders[0])) if found.is_relative_to(folders[0]) else str(found)


def _on_disk(file: str, folders: Sequence[Path]) -> Path | None:
    if not file:
        return None
    candidates = ((folder / file).resolve() for folder in folders)
    return next((path for path in candidates if path.is_file()), None)


@dataclass(frozen=True)
class AnnotatedLine:
    """A line of the source, with what it costs the verifier."""

    number: int
    text: str
    instructions: int | None = None
    """How many instructions were compiled from it; None if there is none."""
    walks: int | None = None
    """How often the verifier walked these instructions, in all; None if there is none."""


@dataclass(frozen=True)
class AnnotatedProgram:
    """The source of a program, with what each line costs the verifier."""

    files: dict[str, list[AnnotatedLine]] = field(default_factory=dict)
    """The lines in their order, by the paths of their files."""
    instructions: int = 0
    """How many instructions the program has."""
    walks: int = 0
    """How many instructions the verifier walked."""
    unknown_walks: int = 0
    """How many of these have no known source line."""


def annotate(
    log: Iterable[str],
    lines: Sequence[LineInfo],
    instructions: int | None = None,
    folders: Sequence[Path] = (),
) -> AnnotatedProgram:
    """Count, for each line of the source, its instructions and how often they were walked.

    `log` are the lines of a log of level 2. `instructions` is the number of instructions that the
    program has, if it is known.
    """
    counts = verifierlog.walks(log)
    known = sorted(lines, key=lambda one: one.instruction)
    end = max(instructions or 0, *(number + 1 for number in counts), 0)
    size: dict[tuple[str, int], int] = {}
    texts: dict[tuple[str, int], str] = {}
    for one, after in zip(known, [*(one.instruction for one in known[1:]), end], strict=False):
        place = (one.file, one.line)
        size[place] = size.get(place, 0) + max(0, after - one.instruction)
        texts.setdefault(place, one.text)
    walked: dict[tuple[str, int], int] = dict.fromkeys(size, 0)
    unknown = 0
    for number, count in counts.items():
        line = _at(known, number)
        if line is None:
            unknown += count
        else:
            walked[line.file, line.line] += count
    files: dict[str, list[AnnotatedLine]] = {}
    for file in dict.fromkeys(place[0] for place in size):
        numbers = sorted(place[1] for place in size if place[0] == file)
        own = {
            number: AnnotatedLine(
                number, texts[file, number], size[file, number], walked[file, number]
            )
            for number in numbers
        }
        files[shown_file(file, folders)] = _filled(own, _on_disk(file, folders))
    return AnnotatedProgram(files, end, sum(counts.values()), unknown)


def _filled(own: dict[int, AnnotatedLine], path: Path | None) -> list[AnnotatedLine]:
    """Add the lines between those of the program, if the file is the one that was compiled."""
    text: list[str] = []
    if path is not None:
        text = path.read_text(encoding="utf-8", errors="replace").splitlines()
        same = [
            number <= len(text) and text[number - 1].strip() == line.text.strip()
            for number, line in own.items()
            if line.text
        ]
        if not all(same):
            text = []
    filled: list[AnnotatedLine] = []
    before: int | None = None
    for number, line in own.items():
        if text and before is not None and number - before - 1 <= _GAP:
            filled += [
                AnnotatedLine(between, text[between - 1]) for between in range(before + 1, number)
            ]
        # The line of the file has its indentation, which BTF does not always have.
        whole = text[number - 1] if text and 0 < number <= len(text) else line.text
        filled.append(AnnotatedLine(number, whole, line.instructions, line.walks))
        before = number
    return filled

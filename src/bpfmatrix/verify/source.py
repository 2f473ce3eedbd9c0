"""C lines beside what the verifier says of them: a rejection explained, a program annotated.

Both take a log, and the lines of the source as the object's BTF has them: each with the first of
the instructions that it became.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bpfmatrix.verify import verifierlog
from bpfmatrix.verify.verifierlog import Line

__all__ = ["Annotated", "AnnotatedLine", "Explanation", "annotate", "explain", "shown_file"]

_SHOWN_LINES = 4
# Lines between two that became instructions are shown too, if there are no more than this.
_GAP = 6


@dataclass(frozen=True)
class Explanation:
    """A rejection in a few lines, and the `file:line` that it speaks of."""

    text: str
    source: str


def explain(log: str, lines: Sequence[Line], folders: Sequence[Path] = ()) -> Explanation:
    """Put the verifier's last words beside the source; `folders` are where its files may be."""
    found = verifierlog.rejection(log)
    known = sorted(lines or verifierlog.lines_of(log.splitlines()), key=lambda one: one.instruction)
    walked = [line for line in (_at(known, number) for number in found.walked) if line]
    # Each line once, the one that is to blame at the end.
    last = list(dict.fromkeys(reversed([(one.file, one.line, one.text) for one in walked])))
    shown = [
        (_place(shown_file(file, folders), number), text)
        for file, number, text in reversed(last[:_SHOWN_LINES])
    ]
    width = max((len(place) for place, _ in shown), default=0)
    said = [f"{place:<{width}}  {text.strip()}".strip() for place, text in shown]
    if found.instruction is not None:
        said.append(f"  {found.instruction}: {found.disassembly}")
    said += [f"  {name}={state}" for name, state in (found.registers or {}).items()]
    said += found.message
    return Explanation("\n".join(said), shown[-1][0] if shown else "")


def _at(lines: Sequence[Line], instruction: int) -> Line | None:
    position = bisect_right(lines, instruction, key=lambda one: one.instruction)
    return lines[position - 1] if position else None


def _place(file: str, line: int) -> str:
    return f"{file}:{line}" if file and line else file


def shown_file(file: str, folders: Sequence[Path]) -> str:
    """Return a file of BTF as people call it: relative to the first of the folders, if it is there.

    BTF has it as the compiler was told it, relative to a folder that nobody wrote down.
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
    """A line of the source. `instructions` and `walks` are None of one that became none."""

    number: int
    text: str
    instructions: int | None = None
    """How many instructions it became."""
    walks: int | None = None
    """How often the verifier walked these, in all."""


@dataclass(frozen=True)
class Annotated:
    """The source of a program with what each line costs; by files, each with its lines in order."""

    files: dict[str, list[AnnotatedLine]] = field(default_factory=dict)
    instructions: int = 0
    walks: int = 0
    unknown_walks: int = 0
    """Of those, the ones of instructions that no line is known for."""


def annotate(
    log: Iterable[str],
    lines: Sequence[Line],
    instructions: int | None = None,
    folders: Sequence[Path] = (),
) -> Annotated:
    """Count, for each line of the source, its instructions and how often they were walked.

    The log is one of level 2; `instructions` is how many the program has, where that is known.
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
    return Annotated(files, end, sum(counts.values()), unknown)


def _filled(own: dict[int, AnnotatedLine], path: Path | None) -> list[AnnotatedLine]:
    """Add the lines between, where the file is there and still the one that was compiled."""
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
        # With its indentation, which BTF mostly has too.
        whole = text[number - 1] if text and 0 < number <= len(text) else line.text
        filled.append(AnnotatedLine(number, whole, line.instructions, line.walks))
        before = number
    return filled

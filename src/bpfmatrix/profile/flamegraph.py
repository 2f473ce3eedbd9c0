"""A flame graph: an SVG file of stacks, in which the width of a box is its number of samples."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bpfmatrix.profile.stacks import SourceLine, Stack

__all__ = ["draw"]

# In SVG's user units.
_WIDTH, _ROW_HEIGHT, _FONT_SIZE = 1200.0, 17, 11
_LETTER_WIDTH = 6.2  # about that of a monospaced font of this size
_NARROWEST_BOX = 0.2  # narrower boxes are left out


@dataclass
class _StackNode:
    """The stacks that share their outermost lines, as a tree."""

    count: int = 0
    inner: dict[SourceLine, "_StackNode"] = field(default_factory=dict)


@dataclass(frozen=True)
class _Box:
    """A line at one place of the graph. `row` counts from the bottom."""

    line: SourceLine
    x: float
    row: int
    width: float
    count: int


def draw(stacks: Iterable[Stack], title: str, target: Path) -> None:
    """Write the flame graph of these stacks as SVG, the outermost lines at the bottom."""
    import drawsvg  # noqa: PLC0415 - off the start-up path

    root = _StackNode()
    for stack in stacks:
        node = root
        node.count += stack.count
        for line in reversed(stack.lines):
            node = node.inner.setdefault(line, _StackNode())
            node.count += stack.count
    boxes = list(_boxes(root))
    rows = max((box.row for box in boxes), default=0) + 1
    height = (rows + 2) * _ROW_HEIGHT
    drawing = drawsvg.Drawing(_WIDTH, height, font_family="monospace")
    drawing.append(drawsvg.Rectangle(0, 0, _WIDTH, height, fill="white"))
    heading = drawsvg.Text(title, _FONT_SIZE + 2, _WIDTH / 2, _ROW_HEIGHT, text_anchor="middle")
    drawing.append(heading)
    for box in boxes:
        y = height - (box.row + 1) * _ROW_HEIGHT
        drawing.append(_rectangle(drawsvg, box, y, root.count))
        if label := _label(box):
            drawing.append(drawsvg.Text(label, _FONT_SIZE, box.x + 2, y + 12))
    target.parent.mkdir(parents=True, exist_ok=True)
    drawing.save_svg(str(target))


def _boxes(root: _StackNode) -> Iterator[_Box]:
    scale = _WIDTH / max(root.count, 1)
    # A stack may be deeper than Python's limit of recursion, so this does not recurse.
    waiting = [(root, 0.0, 0)]
    while waiting:
        outer, x, row = waiting.pop()
        for line, inner in sorted(outer.inner.items()):
            width = inner.count * scale
            if width >= _NARROWEST_BOX:
                yield _Box(line, x, row, width, inner.count)
                waiting.append((inner, x, row + 1))
            x += width


def _rectangle(drawsvg: Any, box: _Box, y: float, samples: int) -> Any:
    # Each file has one hue, so that the boxes of a library stand out.
    hue = sum(map(ord, box.line.file)) * 37 % 360
    lightness = 70 + sum(map(ord, box.line.function)) % 5 * 4
    fill = f"hsl({hue}, 70%, {lightness}%)"
    drawn = drawsvg.Rectangle(box.x, y, box.width, _ROW_HEIGHT - 1, fill=fill, rx=1)
    share = f"{box.count} of {samples} samples, {100 * box.count / samples:.1f}%"
    drawn.append_title(f"{box.line}: {share}")
    return drawn


def _label(box: _Box) -> str:
    """Return the text in a box, cut to the box's width; empty if the box is too narrow."""
    letters = int((box.width - 4) / _LETTER_WIDTH)
    if letters < 3:
        return ""
    line = box.line
    where = f"{Path(line.file).name}:{line.number or '?'}"
    label = f"{line.function} {where}" if line.file else str(line)
    return label if len(label) <= letters else label[: letters - 1] + "…"

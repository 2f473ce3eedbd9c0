"""A flame graph: stacks as an SVG file, in which a line is as wide as the samples that have it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bpfmatrix.profile.lines import Line, Stack

__all__ = ["draw"]

_WIDTH, _ROW, _FONT = 1200.0, 17, 11
_LETTER = 6.2  # about the width of one
_NARROWEST = 0.2  # what is less wide is left out


@dataclass
class _Node:
    count: int = 0
    inner: dict[Line, "_Node"] = field(default_factory=dict)


def draw(stacks: Iterable[Stack], title: str, target: Path) -> None:
    """Write the flame graph of these stacks, the outermost lines at the bottom."""
    import drawsvg  # noqa: PLC0415 - off the start-up path

    root = _Node()
    for stack in stacks:
        node = root
        node.count += stack.count
        for line in reversed(stack.lines):
            node = node.inner.setdefault(line, _Node())
            node.count += stack.count
    boxes = list(_boxes(root, 0.0, 0, _WIDTH / max(root.count, 1)))
    rows = max((row for _, _, row, _, _ in boxes), default=0) + 1
    height = (rows + 2) * _ROW
    drawing = drawsvg.Drawing(_WIDTH, height, font_family="monospace")
    drawing.append(drawsvg.Rectangle(0, 0, _WIDTH, height, fill="white"))
    drawing.append(drawsvg.Text(title, _FONT + 2, _WIDTH / 2, _ROW, text_anchor="middle"))
    for line, x, row, width, count in boxes:
        y = height - (row + 1) * _ROW
        drawing.append(_box(drawsvg, line, x, y, width, f"{line}: {_share(count, root.count)}"))
        letters = int((width - 4) / _LETTER)
        where = f"{Path(line.file).name}:{line.number or '?'}"
        label = f"{line.function} {where}" if line.file else str(line)
        if letters >= 3:
            text = label if len(label) <= letters else label[: letters - 1] + "…"
            drawing.append(drawsvg.Text(text, _FONT, x + 2, y + 12))
    target.parent.mkdir(parents=True, exist_ok=True)
    drawing.save_svg(str(target))


def _boxes(node: _Node, x: float, row: int, scale: float) -> Iterable[tuple[Any, ...]]:
    # Not by recursion: a stack may be deeper than Python's own.
    waiting = [(node, x, row)]
    while waiting:
        outer, x, row = waiting.pop()
        for line, inner in sorted(outer.inner.items()):
            width = inner.count * scale
            if width >= _NARROWEST:
                yield line, x, row, width, inner.count
                waiting.append((inner, x, row + 1))
            x += width


def _box(drawsvg: Any, line: Line, x: float, y: float, width: float, told: str) -> Any:
    # One hue for each file, so that a library's part stands out.
    hue = sum(map(ord, line.file)) * 37 % 360
    shade = 70 + sum(map(ord, line.function)) % 5 * 4
    fill = f"hsl({hue}, 70%, {shade}%)"
    box = drawsvg.Rectangle(x, y, width, _ROW - 1, fill=fill, rx=1)
    box.append_title(told)
    return box


def _share(count: int, of: int) -> str:
    return f"{count} of {of} samples, {100 * count / of:.1f}%"

"""A flame graph: an SVG file of stacks, in which the width of a box is its number of samples.

The outermost lines are at the top, so that the file opens where something is, however deep the
deepest stack. Lines that all stacks begin with are one row. Each box is an inner `<svg>` whose
place and width are percentages: it clips its label, and needs no script to fit a window. The script
(`page/flamegraph.js`) then fits the labels to the window, zooms and searches.
"""

import functools
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.host.text import counted, printable
from bpfmatrix.profile.stacks import SourceLine, Stack

if TYPE_CHECKING:
    import jinja2

__all__ = ["render"]

# In pixels, as in the style and the script.
_WIDTH, _ROW_HEIGHT, _LETTER_WIDTH, _PADDING = 1200, 18, 6.7, 4
_FIRST_ROW = 72  # below the title and the search
# The file has up to 250 bytes for each, and browsers take less than a second to draw them.
_MOST_BOXES = 6000
# Of the graph's width. Narrower boxes that are beside each other are one box.
_NARROWEST = 1 / 4000
_HUES = 12
_MOST_LISTED = 30  # lines in a tooltip, which has no room for more


@dataclass
class _Node:
    """The stacks that share their outermost lines, as a tree."""

    line: SourceLine | str
    """The last of these lines; or a process; or nothing, for the root and for narrow lines."""
    count: int = 0
    inner: dict[SourceLine | str, "_Node"] = field(default_factory=dict)
    narrow: tuple[tuple[str, int], ...] = ()
    """Lines that are too narrow to have boxes, each with its samples."""


@dataclass(frozen=True)
class _Box:
    """A line at one place of the graph. `row` counts from the top."""

    line: SourceLine | str
    start: int
    """In samples from the left, as `count` is."""
    row: int
    count: int
    narrow: tuple[tuple[str, int], ...] = ()


def render(stacks: Sequence[Stack], title: str) -> str:
    """Return the flame graph of these stacks as SVG."""
    root = _tree(stacks)
    samples = max(root.count, 1)
    top, shared = _without_shared_lines(root)
    boxes = list(_widest(top))
    rows = max((box.row for box in boxes), default=0) + 1
    hues = _hues(boxes)
    note = _left_out(boxes) or "The width of a line is its share of the samples."
    return _template().render(
        title=_text(title),
        note=note,
        width=_WIDTH,
        height=_FIRST_ROW + (rows + 1) * _ROW_HEIGHT,
        hues=[number * 360 // _HUES for number in range(_HUES)],
        boxes=(_drawn(box, samples, shared, hues) for box in boxes),
    )


def _tree(stacks: Iterable[Stack]) -> _Node:
    root = _Node("")
    for stack in stacks:
        node = root
        node.count += stack.count
        lines: list[SourceLine | str] = [stack.process] if stack.process else []
        lines += stack.from_outermost()
        for line in lines:
            node = node.inner.setdefault(line, _Node(line))
            node.count += stack.count
    return root


def _without_shared_lines(root: _Node) -> tuple[_Node, list[str]]:
    """Return the tree without the lines that all samples have but the last one, and these lines."""
    shared: list[_Node] = []
    node = root
    while len(node.inner) == 1:
        [inner] = node.inner.values()
        if inner.count < node.count:
            break
        shared.append(inner)
        node = inner
    if len(shared) < 2:
        return root, []
    last = shared.pop()
    return _Node("", root.count, {last.line: last}), [str(node.line) for node in shared]


def _widest(root: _Node) -> Iterator[_Box]:
    """Yield the boxes of a tree, the widest first, and of equally wide ones the outermost."""
    # No inner box is wider than its outer box, so each comes after its outer box.
    waiting = [(-root.count, 0, 0, 0, root)]
    number = 0  # decides between equal entries, as nodes have no order
    for _ in range(_MOST_BOXES):
        if not waiting:
            return
        _, row, _, start, node = heapq.heappop(waiting)
        yield _Box(node.line, start, row, node.count, node.narrow)
        for inner in _side_by_side(node, root.count):
            number += 1
            heapq.heappush(waiting, (-inner.count, row + 1, number, start, inner))
            start += inner.count


def _side_by_side(outer: _Node, samples: int) -> list[_Node]:
    """Return the nodes of the boxes below one box, the widest first."""
    nodes = sorted(outer.inner.values(), key=lambda node: (-node.count, str(node.line)))
    wide = sum(node.count >= samples * _NARROWEST for node in nodes)
    if len(nodes) - wide < 2:
        return nodes
    narrow = tuple((str(node.line), node.count) for node in nodes[wide:])
    return [*nodes[:wide], _Node("", sum(count for _, count in narrow), narrow=narrow)]


def _left_out(boxes: Sequence[_Box]) -> str:
    """Return a sentence about the boxes that are left out; empty if there are none."""
    if len(boxes) < _MOST_BOXES:
        return ""
    most = counted(boxes[-1].count, "sample")
    return f"Only the widest {_MOST_BOXES} boxes are drawn: those left out have at most {most}."


def _hues(boxes: Iterable[_Box]) -> dict[str, int]:
    """Return the number of a hue for each file; those of the widest boxes have different ones."""
    files = dict.fromkeys(box.line.file for box in boxes if isinstance(box.line, SourceLine))
    # 5 and 12 have no common divisor, and neighbours differ much.
    return {file: place * 5 % _HUES for place, file in enumerate(files)}


def _drawn(
    box: _Box, samples: int, shared: Sequence[str], hues: Mapping[str, int]
) -> dict[str, object]:
    """Return what the template writes of a box."""
    share = f"{box.count} of {counted(samples, 'sample')}, {100 * box.count / samples:.1f}%"
    hue = ""
    if box.narrow:
        label = f"{len(box.narrow)} narrow lines"
        listed = [f"{line}: {counted(count, 'sample')}" for line, count in box.narrow]
        title = "\n".join([f"{label}: {share}", *listed[:_MOST_LISTED]])
    elif box.row == 0:
        label = title = counted(box.count, "sample")
        if shared:
            label += f", all of them in {counted(len(shared), 'outer line')} that are not drawn"
            more = len(shared) - _MOST_LISTED
            omitted = [f"({more} more)"] if more > 0 else []
            title = "\n".join([f"{label}:", *omitted, *shared[-_MOST_LISTED:]])
    elif isinstance(box.line, str):
        label, title = box.line, f"{box.line}: {share}"
    else:
        hue = f"h{hues[box.line.file]}"
        label, title = _label(box.line), f"{box.line}: {share}"
    label = _text(label).replace("\n", " ")
    width = 100 * box.count / samples
    return {
        "x": _percent(100 * box.start / samples),
        "width": _percent(width),
        "y": _FIRST_ROW + box.row * _ROW_HEIGHT,
        "title": _text(title),
        "full": label,
        "label": _cut(label, width / 100 * _WIDTH - 2 * _PADDING),
        "hue": hue,
    }


def _percent(value: float) -> str:
    return f"{value:.5f}".rstrip("0").rstrip(".") + "%"


def _label(line: SourceLine) -> str:
    if not line.file:
        return str(line)
    return f"{line.function} {Path(line.file).name}:{line.number or '?'}"


def _text(text: str) -> str:
    """Return a text of others without the characters that XML has no form for."""
    return printable(text).translate({0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD})


def _cut(label: str, pixels: float) -> str:
    """Return a label that fits; empty if there is no room for three letters.

    Letters are as wide as the widest monospaced fonts have them, and East Asian ones twice that.
    """
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - off the start-up path

    cells = int(pixels / _LETTER_WIDTH)
    if cells < 3:
        return ""
    return label if cell_len(label) <= cells else set_cell_size(label, cells - 1).rstrip() + "…"


@functools.cache
def _template() -> "jinja2.Template":
    import jinja2  # noqa: PLC0415 - off the start-up path
    from markupsafe import Markup  # noqa: PLC0415

    page = resources.files("bpfmatrix.profile") / "page"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # Files of this package: they have nothing from a profile.
    for name in ("flamegraph.js", "flamegraph.css"):
        text = (page / name).read_text(encoding="utf-8")
        environment.globals[name.replace(".", "_")] = Markup(text)  # noqa: S704
    template = (page / "flamegraph.svg.j2").read_text(encoding="utf-8")
    return environment.from_string(template)

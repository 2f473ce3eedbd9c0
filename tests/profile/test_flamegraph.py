"""Flame graphs, read back as SVG."""

import itertools
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given

from bpfmatrix.profile import flamegraph
from bpfmatrix.profile.stacks import SourceLine, Stack
from tests.profile.samples import STACKS

SVG = "{http://www.w3.org/2000/svg}"


@given(STACKS.filter(bool))
def test_the_bottom_row_is_as_wide_as_all_samples(
    tmp_path_factory: pytest.TempPathFactory, found: list[Stack]
) -> None:
    path = tmp_path_factory.getbasetemp() / "flame.svg"
    flamegraph.draw(found, "title", path)
    tree = ElementTree.parse(path)
    boxes = [box for box in tree.iter(f"{SVG}rect") if box.find(f"{SVG}title") is not None]
    by_row: dict[str, list[tuple[float, float]]] = {}
    for box in boxes:
        left, width = float(box.attrib["x"]), float(box.attrib["width"])
        by_row.setdefault(box.attrib["y"], []).append((left, left + width))
    assert len(by_row) == max(len(stack.lines) for stack in found)
    for row in by_row.values():
        row.sort()
        # The boxes of a row do not overlap.
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(row))
    bottom = by_row[max(by_row, key=float)]
    assert sum(right - left for left, right in bottom) == pytest.approx(1200)


def test_names_with_markup_and_deep_stacks_are_drawn(tmp_path: Path) -> None:
    odd = SourceLine('/x/<&>".py', 1, "f.<locals>.<lambda>")
    deep = tuple(SourceLine("/x/a.py", number, "f") for number in range(1, 2000))
    flamegraph.draw([Stack((odd,), 1, 1), Stack(deep, 1, 1)], "a < b & c", tmp_path / "f.svg")
    text = "".join(ElementTree.parse(tmp_path / "f.svg").getroot().itertext())
    assert "a < b & c" in text
    assert '/x/<&>".py:1 f.<locals>.<lambda>: 1 of 2 samples, 50.0%' in text
    assert "/x/a.py:1999 f: 1 of 2 samples" in text

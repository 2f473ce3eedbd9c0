"""Flame graphs, read back as SVG, and in a browser."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.profile import flamegraph
from bpfmatrix.profile.stacks import SourceLine, Stack
from tests.browser import colours, open_file, screenshots, wait
from tests.profile.samples import STACKS

SVG = "{http://www.w3.org/2000/svg}"
MAIN = SourceLine("/x/main.py", 13, "<module>")


def boxes_of(text: str) -> list[dict[str, Any]]:
    tree = ElementTree.fromstring(text)
    return [
        {
            "x": float(box.attrib["x"].removesuffix("%")),
            "width": float(box.attrib["width"].removesuffix("%")),
            "y": int(box.attrib["y"]),
            "title": box.findtext(f"{SVG}title"),
            "label": box.findtext(f"{SVG}text"),
        }
        for box in tree.iterfind(f"{SVG}g/{SVG}svg")
    ]


@given(STACKS.filter(bool))
def test_the_boxes_of_a_row_do_not_overlap(stacks: list[Stack]) -> None:
    by_row: dict[int, list[tuple[float, float]]] = {}
    for box in boxes_of(flamegraph.render(stacks, "title")):
        by_row.setdefault(box["y"], []).append((box["x"], box["x"] + box["width"]))
    top, *rows = [sorted(by_row[y]) for y in sorted(by_row)]
    assert top == [(0, 100)]
    for outer, row in itertools.pairwise([top, *rows]):
        assert all(a[1] <= b[0] + 1e-4 for a, b in itertools.pairwise(row))
        # A box is below one that is as wide or wider.
        assert all(any(o[0] <= b[0] + 1e-4 and b[1] <= o[1] + 1e-4 for o in outer) for b in row)
    assert sum(right - left for left, right in rows[0]) == pytest.approx(100)


@given(st.text(), st.text(), st.text())
def test_any_text_makes_a_file_that_parses(file: str, function: str, title: str) -> None:
    stacks = [Stack((SourceLine(file, 1, function),), 1, 1), Stack((MAIN,), 1, 1, function)]
    tree = ElementTree.fromstring(flamegraph.render(stacks, title))
    assert len(list(tree.iter(f"{SVG}script"))) == 1
    assert len(list(tree.iterfind(f"{SVG}g/{SVG}svg"))) >= 3


def test_names_with_markup_are_text() -> None:
    odd = SourceLine('/x/<&>".py', 1, "f.<locals>.<lambda>")
    text = flamegraph.render([Stack((odd,), 1, 1), Stack((MAIN,), 1, 1)], "a < b & c")
    titles = [box["title"] for box in boxes_of(text)]
    assert '/x/<&>".py:1 f.<locals>.<lambda>: 1 of 2 samples, 50.0%' in titles
    assert ElementTree.fromstring(text).findtext(f"{SVG}title") == "a < b & c"


def test_lines_that_all_samples_have_are_one_row() -> None:
    outer = tuple(SourceLine("/x/run.py", number, "run") for number in range(30, 0, -1))
    inner = [SourceLine("/x/hot.py", number, "spin") for number in (1, 2)]
    stacks = [Stack((line, MAIN, *outer), 5, 1) for line in inner]
    top, main, *rest = boxes_of(flamegraph.render(stacks, "title"))
    assert "30 outer lines that are not drawn" in top["label"]
    assert "/x/run.py:1 run" in top["title"]
    assert main["title"].startswith("/x/main.py:13 <module>: 10 of 10 samples")
    assert [box["width"] for box in rest] == [50, 50]


def test_a_single_stack_has_its_innermost_line() -> None:
    stack = Stack((SourceLine("/x/hot.py", 1, "spin"), MAIN), 5, 1)
    assert boxes_of(flamegraph.render([stack], "title"))[-1]["label"] == "spin hot.py:1"
    assert len(boxes_of(flamegraph.render([Stack((MAIN,), 5, 1)], "title"))) == 2
    assert len(boxes_of(flamegraph.render([], "title"))) == 1


def deep() -> list[Stack]:
    """Stacks of 2,000 lines that differ near the outermost one, and a short hot one."""
    hot = [Stack((SourceLine("/x/hot.py", n, "spin"), MAIN), 400 - n, 1) for n in range(3)]
    return hot + [
        Stack((*(SourceLine(f"/x/{n}.py", i, "down") for i in range(2000, 0, -1)), MAIN), 60, 1)
        for n in range(2)
    ]


def wide() -> list[Stack]:
    return [Stack((SourceLine(f"/x/{n}.py", n, f"f{n}"), MAIN), 1 + n % 7, 1) for n in range(10000)]


@pytest.mark.parametrize("stacks", [deep(), wide()], ids=["deep", "wide"])
def test_what_is_left_out_is_narrow_and_counted(stacks: list[Stack]) -> None:
    text = flamegraph.render(stacks, "title")
    assert len(text) < 2_000_000
    assert len(boxes_of(text)) <= 6000
    assert "left out" not in text
    if len(stacks) == 10000:
        assert boxes_of(text)[-1]["label"] == "10000 narrow lines"
        assert "/x/1000.py:1000 f1000: 7 samples\n" in boxes_of(text)[-1]["title"]
    else:
        assert "/x/1.py:2000 down: 60 of" in text


def test_the_widest_boxes_are_drawn_if_there_are_too_many() -> None:
    stacks = [
        Stack(
            tuple(SourceLine(f"/x/{n}.py", i, "f") for i in range(n % 3 * 100 + 1)),
            10 - n // 100,
            1,
        )
        for n in range(1000)
    ]
    text = flamegraph.render(stacks, "title")
    boxes = boxes_of(text)
    assert len(boxes) == 6000
    assert "Only the widest 6000 boxes are drawn: those left out have at most 10 samples." in text


@given(st.text(min_size=1, max_size=60), st.floats(0, 400))
def test_a_label_is_no_wider_than_its_box(name: str, pixels: float) -> None:
    from rich.cells import cell_len

    label = flamegraph._cut(name, pixels)
    assert cell_len(label) * 6.7 <= pixels or not label


# ---- in the browser --------------------------------------------------------------------------


def usual() -> list[Stack]:
    """Stacks as a script has them, with wide letters and a long name."""
    library = [SourceLine("/usr/lib/python3.11/json/encoder.py", n, "encode") for n in range(9)]
    names = ["JSONEncoder.iterencode", "计算所有的值", "f.<locals>.<lambda>", "größter_gemeinsamer"]
    hot = [SourceLine(f"/x/hot{n % 3}.py", n, names[n % 4]) for n in range(40)]
    stacks = [Stack((hot[n], hot[n // 2], hot[n // 5], MAIN), 3 + n * 7 % 31, 1) for n in range(40)]
    return stacks + [
        Stack((line, *reversed(library[: line.number]), MAIN), 9, 1) for line in library
    ]


READY = "document.querySelector('.controls input') !== null"
# The boxes that are drawn, with the widths of their labels.
SHOWN = """[...document.querySelectorAll("#boxes > svg")]
  .filter((box) => box.style.display !== "none")
  .map((box) => [
    box.firstElementChild.textContent, box.lastElementChild.textContent,
    box.lastElementChild.getComputedTextLength(), box.getBoundingClientRect().width,
    box.getBoundingClientRect().top])"""


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    for name, stacks in (("usual", usual()), ("deep", deep()), ("wide", wide())):
        (folder / f"{name}.svg").write_text(flamegraph.render(stacks, f"{name}.py on 6.1"))
    return {path.stem: path for path in folder.iterdir()}


@pytest.fixture(params=[1280, 390])
def width(browser: Any, request: pytest.FixtureRequest) -> Iterator[int]:
    metrics = {"width": request.param, "height": 860, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    yield request.param
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.integration
@pytest.mark.parametrize("name", ["usual", "deep", "wide"])
def test_labels_fit_their_boxes(
    browser: Any, graphs: dict[str, Path], width: int, name: str
) -> None:
    open_file(browser, graphs[name], "", READY)
    shown = wait(browser, SHOWN)
    assert max(box[3] for box in shown) == pytest.approx(width, abs=16)  # less a scroll bar
    for title, label, pixels, room, _ in shown:
        assert not label or pixels <= room - 6, title
    assert sum(bool(box[1]) for box in shown) >= (3 if name == "wide" else 4)
    for scheme in ("light", "dark"):
        colours(browser, scheme)
        browser.save_screenshot(str(screenshots() / f"flamegraph-{name}-{scheme}-{width}.png"))


@pytest.mark.integration
def test_a_click_zooms_and_the_address_leads_back(browser: Any, graphs: dict[str, Path]) -> None:
    open_file(browser, graphs["deep"], "", READY)
    whole = wait(browser, SHOWN)
    browser.execute_script(
        "const boxes = [...document.querySelectorAll('#boxes > svg')];"
        "boxes.find((box) => box.textContent.includes('0.py:1500 down')).firstElementChild"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    wait(browser, "window.location.hash.length > 1")
    wait(browser, "document.getElementById('note').textContent.includes('1500 down')")
    zoomed = {box[0]: box for box in wait(browser, SHOWN)}
    [found] = [box for title, box in zoomed.items() if "0.py:1500 down" in title]
    # As wide as the window, and near its top, below all samples and the nearest two outer lines.
    assert found[3] == pytest.approx(max(box[3] for box in whole))
    assert found[4] == 72 + 3 * 18
    assert len(zoomed) == 1 + 2 + 501
    browser.back()
    assert wait(browser, f"{SHOWN}.length === {len(whole)}")


@pytest.mark.integration
def test_a_search_marks_boxes_and_says_their_share(browser: Any, graphs: dict[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    open_file(browser, graphs["deep"], "", READY)
    field = browser.find_element(By.CSS_SELECTOR, ".controls input")
    # The element's own send_keys() types nothing in a document that is not HTML.
    ActionChains(browser).click(field).send_keys("DOWN").perform()
    samples = sum(stack.count for stack in deep())
    share = f"in {100 * 120 / samples:.1f}% of all samples"
    wait(browser, f"document.querySelector('.controls output').textContent === '{share}'")
    assert wait(browser, "document.querySelectorAll('#boxes > .found').length") == 4000


@pytest.mark.integration
def test_the_picture_needs_no_script(browser: Any, graphs: dict[str, Path]) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"file://{graphs['usual']}")
        browser.save_screenshot(str(screenshots() / "flamegraph-no-script.png"))
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert wait(browser, "document.documentElement.getAttribute('viewBox')")
    for title, label, pixels, room, _ in wait(browser, SHOWN):
        assert not label or pixels <= room - 6, title

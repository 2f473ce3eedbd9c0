# ruff: noqa: E501 - the browser runs scripts that read better in one line
"""The HTML report, as text and in a real browser: Debian's Chromium, without a window."""

import base64
import contextlib
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings

from bpfmatrix.report import html
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Kind, Result
from bpfmatrix.report.origin import ReportOrigin
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Statistics, Verification
from tests.browser import colours, open_file, screenshots, wait
from tests.report.samples import WILD, several

ORIGIN = ReportOrigin(
    "sample </title><script>alert(1)</script>", "main", "1a2b3c4d", frozenset(("5.10", "6.1"))
)
VERSIONS = ("5.10.262", "6.1.192", "6.12.117", "7.3.4")


def unpacked(page: str) -> dict[str, Any]:
    """Return the data that the page holds in compressed form."""
    text = page[page.index('id="data">') + 10 :]
    whole = json.loads(gzip.decompress(base64.b64decode(text[: text.index("<")])))
    assert isinstance(whole, dict)
    return whole


@settings(max_examples=50)
@given(several)
def test_nothing_in_a_result_becomes_html(results: list[Result]) -> None:
    page = html.render(Matrix.of(results), ReportOrigin(results[0].name if results else ""))
    clean = html.render(Matrix.of([]))
    assert page.count("<script") == clean.count("<script") + page.count('class="block"')
    assert page.count("</script") == page.count("<script")
    assert page.count("<!--") == 0
    cells = "".join(column["cells"] for column in unpacked(page)["columns"])
    assert sum(cell != "." for cell in cells) == sum(
        len(c.cells) for c in Matrix.of(results).columns
    )


def sample(folder: Path) -> Matrix:
    """A small project: tests and programs on four kernels, with logs, and all WILD names."""
    found: list[Result] = []
    for number, version in enumerate(VERSIONS):
        id = ".".join(version.split(".")[:2])
        tests = [
            TestResult(
                "programs", f"TestRingbuf/case_{n}", Outcome.PASSED, 0.1 * n, "", f"ok {n}\n"
            )
            for n in range(6)
        ]
        old = number == 0
        tests.append(
            TestResult("programs", "TestBoundedLoops", Outcome.SKIPPED, 0, "needs 5.17: bpf_loop")
            if old
            else TestResult("programs", "TestBoundedLoops", Outcome.PASSED, 0.2)
        )
        tests.append(TestResult("programs", "TestKnown", Outcome.FAILED, 0, "boom", "", "issue 12"))
        tests += [TestResult("wild", name, Outcome.FAILED, 0, name, name) for name in WILD]
        console = folder / f"results/{id}/console.log"
        console.parent.mkdir(parents=True)
        console.write_text(f"Linux version {version}\n" + "booting\n" * 50)
        run = KernelRun(
            id,
            Outcome.FAILED,
            "TestKnown: boom",
            version=version,
            arch="x86_64",
            seconds=4.2,
            tests=tuple(tests),
            console=f".bpfmatrix/results/{id}/console.log",
        )
        found.append(Result(run, folder / "results", f"{id}.json"))
        (folder / f"verify/{id}").mkdir(parents=True)
        (folder / f"verify/{id}/on_sample.log").write_text("0: (b7) r0 = 0\n" * 3000 + "the end\n")
        programs = [
            ProgramResult(
                "ebpf/sched_monitor.bpf.o",
                f"on_{name}",
                Outcome.PASSED,
                section="tp_btf/sched_switch",
                type="tracing",
                seconds=0.01,
                statistics=Statistics(100 * number, 1500 * (5 - number) * (i + 1), 1_000_000),
            )
            for i, name in enumerate(("exec", "exit", "fork"))
        ]
        programs.append(
            ProgramResult(
                "ebpf/stack_sampler.bpf.o",
                "on_sample",
                Outcome.FAILED if old else Outcome.PASSED,
                section="perf_event",
                type="perf_event",
                code=Code.VERIFIER_REJECTED if old else None,
                reason="R0 invalid mem access 'map_value_or_null'" if old else "",
                source="ebpf/stack_sampler.bpf.c:89" if old else "",
                verifier_tail="58: (79) r1 = *(u64 *)(r0 +0)\nR0 invalid mem access\n"
                if old
                else "",
                log=f".bpfmatrix/verify/{id}/on_sample.log" if old else "",
                statistics=Statistics(900, 9000 - 1000 * number, 1_000_000),
            )
        )
        verified = Verification(
            id,
            Outcome.FAILED if old else Outcome.PASSED,
            version=version,
            arch="x86_64",
            seconds=2.0,
            programs=tuple(programs),
        )
        found.append(Result(verified, folder / "verify", f"{id}.json"))
    return Matrix.of(found)


def large() -> Matrix:
    """50 kernels with 1,000 programs, every fiftieth of which is rejected."""
    found = []
    chance = random.Random(1)
    costs = [chance.randrange(50, 200_000) for _ in range(1000)]
    for kernel in range(50):
        programs = []
        for n in range(1000):
            bad = (n * 7 + kernel * 3) % 50 == 0
            cost = round(costs[n] * chance.choice((1, 1, 1, 1, 1.02, 0.97)))
            programs.append(
                ProgramResult(
                    f"build/part_{n // 50}.bpf.o",
                    f"handle_event_{n}",
                    Outcome.FAILED if bad else Outcome.PASSED,
                    section="kprobe/do_sys_open",
                    type="kprobe",
                    code=Code.VERIFIER_REJECTED if bad else None,
                    reason=f"R{n % 10} invalid mem access 'scalar'" if bad else "",
                    verifier_tail="".join(
                        f"{i}: (bf) r{chance.randrange(10)} = r{chance.randrange(10)}  ; R{i % 10}={chance.randrange(1 << 40)}\n"
                        for i in range(40 * bad)
                    ),
                    seconds=chance.randrange(1, 400) / 1000,
                    statistics=Statistics(
                        chance.randrange(40, 20_000),
                        cost,
                        1_000_000,
                        peak_states=cost // 40,
                        total_states=cost // 30 + (n * kernel) % 5,
                        stack_depth=n % 512,
                        program_instructions=cost // 8,
                        jited_bytes=cost // 2 + kernel % 3,
                    ),
                )
            )
        found.append(
            Result(
                Verification(
                    f"{5 + kernel // 20}.{kernel % 20}",
                    Outcome.FAILED,
                    version=f"{5 + kernel // 20}.{kernel % 20}.7",
                    programs=tuple(programs),
                )
            )
        )
    return Matrix.of(found)


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.html"
    path.write_text(html.render(large()))
    return path


def test_a_page_of_50_kernels_and_1000_programs_is_under_2_mb(large_page: Path) -> None:
    assert large_page.stat().st_size < 2_000_000


# ---- in the browser -------------------------------------------------------------------------


def open_page(browser: Any, path: Path, **state: str) -> None:
    open_file(browser, path, urlencode(state), "document.documentElement.dataset.ready")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(html.render(sample(folder), ORIGIN))
    return path


AXE = Path(__file__).parents[2] / "node_modules/axe-core/axe.min.js"
# What the tests of accessibility look at, by the address of the page.
CELL = {"kernel": "5.10.262", "kind": "1", "group": "ebpf/stack_sampler.bpf.o", "name": "on_sample"}
VIEWS = {
    "front": {},
    "insns": {"view": "insns"},
    "cell": CELL,
    "row": {key: value for key, value in CELL.items() if key != "kernel"},
    "kernel": {"kernel": "5.10.262"},
}


def violations(browser: Any) -> list[str]:
    """Return what axe-core finds in the page, with the elements."""
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script("axe.run(document).then(arguments[0])")
    assert found["passes"]
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@pytest.fixture(scope="module")
def passed_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("passed") / "report.html"
    runs = (
        KernelRun("6.1", Outcome.PASSED, tests=(TestResult("t", "TestA", Outcome.PASSED),)),
        KernelRun("7.3", Outcome.PASSED, tests=(TestResult("t", "TestA", Outcome.PASSED),)),
    )
    path.write_text(html.render(Matrix.of(map(Result, runs)), ORIGIN))
    return path


@pytest.fixture(scope="module")
def rejected_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a single failure, which is open."""
    folder = tmp_path_factory.mktemp("rejected")
    programs = [r for c in sample(folder).columns for r in c.results if r.kind is Kind.PROGRAM]
    (folder / "report.html").write_text(html.render(Matrix.of(programs), ORIGIN))
    return folder / "report.html"


@contextlib.contextmanager
def screen(browser: Any, width: int, scheme: str) -> Iterator[None]:
    """Have a screen of a width in pixels, with a `light` or `dark` scheme of colours."""
    metrics = {"width": width, "height": 860, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    colours(browser, scheme)
    yield
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.integration
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(
    browser: Any, page: Path, passed_page: Path, scheme: str, width: int
) -> None:
    pages = [(name, page, state) for name, state in VIEWS.items()]
    with screen(browser, width, scheme):
        for name, path, state in [*pages, ("passed", passed_page, {})]:
            open_page(browser, path, **state)
            browser.execute_script("document.getAnimations().forEach(a => a.finish())")
            browser.save_screenshot(str(screenshots() / f"{scheme}-{width}-{name}.png"))
            assert violations(browser) == [], name
            # Nothing makes the whole page wider than the screen.
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.integration
def test_the_address_of_a_cell_opens_it_with_its_logs(browser: Any, page: Path) -> None:
    open_page(
        browser,
        page,
        kernel="5.10.262",
        kind="1",
        group="ebpf/stack_sampler.bpf.o",
        name="on_sample",
    )
    wait(
        browser,
        "document.querySelectorAll('#inside pre').length === 3 && [...document.querySelectorAll('#inside pre')].every(p => p.dataset.ready)",
    )
    text = browser.execute_script("return document.getElementById('inside').textContent")
    for part in (
        "verifier-rejected",
        "ebpf/stack_sampler.bpf.c:89",
        "R0 invalid mem access",
        "the end",
        "Linux version 5.10.262",
        "9,000",
    ):
        assert part in text


@pytest.mark.integration
def test_filters_by_text_outcome_and_kernel_are_in_the_address(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.by import By

    open_page(browser, page)
    box = browser.find_element(By.ID, "text")
    box.send_keys("verifier-rejected")
    assert (
        browser.execute_script("return document.querySelectorAll('.row .name:not(.group)').length")
        == 1
    )
    box.clear()
    open_page(browser, page, o="s")
    names = browser.execute_script(
        "return [...document.querySelectorAll('.row .name:not(.group)')].map(e => e.textContent)"
    )
    assert names == ["TestBoundedLoops"]
    browser.find_element(By.CSS_SELECTOR, "#kernels summary").click()
    browser.find_elements(By.CSS_SELECTOR, "#kernels input")[2].click()
    assert "k=6.12.117" in browser.current_url
    assert browser.find_element(By.ID, "shown").text.startswith("0 of")


@pytest.mark.integration
def test_the_view_of_instructions_shows_only_programs(browser: Any, page: Path) -> None:
    open_page(browser, page, view="insns")
    cells = browser.execute_script(
        "return [...document.querySelectorAll('.cell')].map(e => e.textContent)"
    )
    assert cells[:4] == ["7.5k", "6.0k", "4.5k", "3.0k"]
    # The first kernel rejected it, after some instructions.
    assert cells[12:] == ["✗", "8.0k", "7.0k", "6.0k"]
    assert len(cells) == 16


@pytest.mark.integration
def test_keyboard_alone_reaches_and_opens_a_cell(browser: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, page)
    browser.execute_script("document.querySelector('#grid .cell [tabindex=\"0\"]').focus()")
    active = browser.switch_to.active_element
    active.send_keys(Keys.ARROW_DOWN)
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    label = browser.switch_to.active_element.get_attribute("aria-label")
    assert "6.1.192" in label
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.getElementById('panel').open")
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not browser.execute_script("return document.getElementById('panel').open")
    assert browser.switch_to.active_element.get_attribute("aria-label") == label


@pytest.mark.integration
def test_names_that_look_like_html_are_shown_unchanged(browser: Any, page: Path) -> None:
    open_page(browser, page, q="script")
    names = browser.execute_script(
        "return [...document.querySelectorAll('.row .name:not(.group)')].map(e => e.textContent)"
    )
    assert "</script><script>alert(1)</script>" in names
    assert "<!--<script>" in names
    assert browser.title.startswith("sample </title><script>")


@pytest.mark.integration
def test_a_large_page_draws_few_rows_and_filters_fast(browser: Any, large_page: Path) -> None:
    # Seconds of the page's thread on a processor, which do not count what else the machine does.
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    open_page(browser, large_page)
    before = busy_seconds(browser)
    browser.execute_script(
        "const box = document.getElementById('text');"
        "box.value = 'event_77'; box.dispatchEvent(new Event('input')); box.offsetHeight;"
    )
    took = busy_seconds(browser) - before
    browser.execute_cdp_cmd("Performance.disable", {})
    assert browser.execute_script("return document.querySelectorAll('.row').length") < 100
    browser.save_screenshot(str(screenshots() / "large.png"))
    assert 0 < took < 0.5


def busy_seconds(browser: Any) -> float:
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))


@pytest.mark.integration
def test_the_page_says_that_its_data_is_damaged(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "damaged.html"
    whole = html.render(Matrix.of([]))
    path.write_text(whole.replace('id="data">', 'id="data">AAAA'))
    browser.get(f"file://{path}")
    wait(browser, "!document.getElementById('failed').hidden")
    shown = browser.execute_script("return document.getElementById('failed').textContent")
    assert "could not be unpacked" in shown
    assert browser.execute_script("return document.getElementById('filters').hidden")


# ---- the front, in the browser ---------------------------------------------------------------


@pytest.mark.integration
def test_without_its_script_the_page_shows_what_failed(browser: Any, rejected_page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(f"file://{rejected_page}")
        shown = browser.find_element("tag name", "main").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    for part in ("on_sample", "ebpf/stack_sampler.bpf.c:89", "R0 invalid mem access", "5.10.262"):
        assert part in shown
    for part in ("All results", "Copy"):
        assert part not in shown


@pytest.mark.integration
@pytest.mark.parametrize("clipboard", ["allowed", "denied", "missing"])
def test_a_command_is_copied_with_the_clipboard_or_without(
    browser: Any, rejected_page: Path, clipboard: str
) -> None:
    open_page(browser, rejected_page)
    browser.execute_script(REPLACED_CLIPBOARD[clipboard])
    browser.find_element("css selector", ".copy").click()
    expected = "invoke verify ebpf/stack_sampler.bpf.o --filter on_sample --kernel 5.10"
    assert wait(browser, "window.copied") == expected
    wait(browser, "[...document.querySelectorAll('.copy')].some(b => b.textContent === 'Copied')")


# What takes the place of the clipboard: the text that was copied is then in `window.copied`.
_LISTEN = "addEventListener('copy', () => { window.copied = getSelection().toString(); });"
REPLACED_CLIPBOARD = {
    "allowed": "navigator.clipboard.writeText = async (text) => { window.copied = text; };",
    "denied": "navigator.clipboard.writeText = async () => { throw new Error('denied'); };"
    + _LISTEN,
    "missing": "Object.defineProperty(navigator, 'clipboard', {value: undefined});" + _LISTEN,
}


@pytest.mark.integration
def test_on_a_phone_a_long_name_loses_its_middle(browser: Any, tmp_path: Path) -> None:
    name = f"TestConnections/{'with_a_very_long_description_' * 3}and_none_lost"
    run = KernelRun("6.1", Outcome.PASSED, tests=(TestResult("t", name, Outcome.PASSED),))
    path = tmp_path / "long.html"
    path.write_text(html.render(Matrix.of([Result(run)])))
    with screen(browser, 390, "light"):
        open_page(browser, path)
        begin, end = browser.execute_script(
            "const [b, e] = document.querySelectorAll('.row .name button span');"
            "return [b, e].map(s => ({text: s.textContent, cut: s.scrollWidth > s.clientWidth,"
            " right: s.getBoundingClientRect().right}));"
        )
        assert begin["text"] + end["text"] == name
        assert begin["cut"]
        assert not end["cut"]
        assert end["right"] <= 390
        browser.find_element("css selector", ".row .name button").click()
        assert browser.find_element("id", "panel-title").get_attribute("textContent") == name


@pytest.mark.integration
def test_the_name_of_a_row_opens_it_on_all_kernels(browser: Any, page: Path) -> None:
    open_page(browser, page, **VIEWS["row"])
    panel = browser.find_element("id", "inside")
    # Not `text`, which is empty while the panel is being faded in.
    items = panel.find_elements("css selector", ".by-kernel li")
    lines = [item.get_attribute("textContent") for item in items]
    assert len(lines) == len(VERSIONS)
    assert "failed" in lines[0]
    assert "R0 invalid mem access" in lines[0]
    browser.execute_script("document.querySelector('.by-kernel button').click()")
    assert "kernel=5.10.262" in browser.current_url
    assert "Next commands" in panel.get_attribute("textContent")


@pytest.mark.integration
def test_a_console_has_no_control_characters_of_firmware(browser: Any, tmp_path: Path) -> None:
    console = tmp_path / "results/6.1/console.log"
    console.parent.mkdir(parents=True)
    console.write_bytes(
        b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2)\r\r\nBooting from ROM..\x1bc\x1b[?7l"
        b"\x1b[2J\x1b[01;01H\x0e\x00[    0.000000] Linux version 6.1\r50 %\r\n"
    )
    run = KernelRun("6.1", Outcome.PASSED, console=".bpfmatrix/results/6.1/console.log")
    path = tmp_path / "report.html"
    path.write_text(html.render(Matrix.of([Result(run, tmp_path / "results")])))
    open_page(browser, path, kernel="6.1")
    wait(browser, "document.querySelector('#inside pre').dataset.ready")
    assert browser.execute_script("return document.querySelector('#inside pre').textContent") == (
        "SeaBIOS (version 1.16.2)\nBooting from ROM..[    0.000000] Linux version 6.1\n50 %"
    )

"""Markdown, JUnit, JSON and the table."""

import html
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from bpfmatrix.report import formats, inputs, junit, markdown, summary, table
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Kind, Result
from bpfmatrix.report.wording import plain
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from tests.report.samples import WILD, several


def read_as_github_does(text: str) -> list[str]:
    """Return what each token of the page is; HTML is let through, as GitHub does."""
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return [token.type for token in (*tokens, *inline)]


@given(several)
def test_nothing_in_a_result_is_markdown(results: list[Result]) -> None:
    page = markdown.render(Matrix.of(results))
    kinds = set(read_as_github_does(page))
    assert not kinds & {
        "link_open",
        "em_open",
        "strong_open",
        "s_open",
        "code_inline",
        "fence",
        "image",
    }
    assert not kinds & {"bullet_list_open", "blockquote_open", "code_block", "hr"}
    assert "@" not in page
    for tag in ("script", "!--"):
        assert f"<{tag}" not in page


@given(several)
def test_the_table_of_kernels_has_a_row_for_each(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    lines = markdown.render(matrix).split("\n\n")[1].splitlines() if results else []
    assert len(lines) == (len(matrix.columns) + 2 if results else 0)
    assert len({line.count("|") for line in lines}) <= 1


@given(several)
def test_a_page_keeps_to_its_limit(results: list[Result]) -> None:
    whole = markdown.render(Matrix.of(results))
    cut = markdown.render(Matrix.of(results), limit=0)
    assert len(cut) <= len(whole) + 60
    assert "<details>" not in cut


def test_a_failure_shows_its_output_as_it_was() -> None:
    for wild in WILD:
        run = KernelRun(
            "6.1", Outcome.FAILED, tests=(TestResult("t", wild, Outcome.FAILED, 0, wild, wild),)
        )
        page = markdown.render(Matrix.of([Result(run)]))
        details = page[page.index("<details>") :]
        # Of the browser's view of it: an HTML parser that is not ours would do the same.
        inside = details[details.index("<pre>") + 5 : details.rindex("</pre>")]
        assert html.unescape(inside).rstrip() == plain(wild).rstrip()


@given(several)
def test_junit_is_xml_and_has_every_row(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    text = junit.render(matrix)
    root = ET.fromstring(text)
    cases = root.findall("./testsuite/testcase")
    bad = sum(cell.is_failure for column in matrix.columns for cell in column.cells.values())
    rows = sum(len(column.cells) for column in matrix.columns)
    kernels = [case for case in cases if "kernel " in case.attrib["name"]]
    assert rows <= len(cases) <= rows + len(results)
    found = [
        case for case in cases if case.find("failure") is not None or case.find("error") is not None
    ]
    assert bad <= len(found) <= bad + len(kernels)
    parsed = JUnitXml.fromstring(text)
    assert parsed.tests == len(cases)
    # A CI that reads only this must not show a pass where there is none.
    worse = [r for r in results if r.run.outcome not in (Outcome.PASSED, Outcome.SKIPPED)]
    assert (parsed.failures + parsed.errors > 0) or not worse


@given(several)
def test_json_is_read_back(tmp_path_factory: pytest.TempPathFactory, results: list[Result]) -> None:
    path = tmp_path_factory.getbasetemp() / "merged.json"
    path.write_text(formats.render("json", results))
    if not results:
        return
    again = inputs.read([path])
    found = {kind: [r.run for r in results if r.kind is kind] for kind in Kind}
    assert [result.run for result in again] == [*found[Kind.TEST], *found[Kind.PROGRAM]]
    assert json.loads(formats.render("json", again)) == json.loads(path.read_text())


@given(several)
def test_a_table_shows_every_kernel(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    text = table.to_text(matrix)
    assert "\x1b" not in text
    for column in matrix.columns:
        assert str(column.outcome) in text


def test_a_ci_summary_gets_the_page_and_a_wrong_path_fails_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = KernelRun("6.1", Outcome.PASSED, tests=(TestResult("t", "a", Outcome.PASSED),))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    summary.write([run])
    summary.write([run])
    assert (tmp_path / "summary.md").read_text().count("### ✅ 1 kernel, 1 test, all passed") == 2
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no/folder"))
    summary.write([run])

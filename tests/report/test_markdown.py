"""The Markdown report, read by a parser of GitHub's dialect."""

import html

from hypothesis import given
from markdown_it import MarkdownIt

from bpfmatrix.report import markdown
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.report.wording import plain
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import KernelWarning, Outcome
from tests.report.samples import WILD, several


def read_as_github_does(text: str) -> list[str]:
    """Return the types of the page's tokens. HTML is passed through, as GitHub does it."""
    tokens = MarkdownIt("gfm-like", {"html": True, "linkify": False}).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    return [token.type for token in (*tokens, *inline)]


@given(several)
def test_nothing_in_a_result_becomes_markdown(results: list[Result]) -> None:
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
def test_a_page_over_the_limit_has_no_details(results: list[Result]) -> None:
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
        # As a browser shows it.
        inside = details[details.index("<pre>") + 5 : details.rindex("</pre>")]
        assert html.unescape(inside).rstrip() == plain(wild).rstrip()


def test_a_kernel_warning_shows_its_lines() -> None:
    warning = KernelWarning("WARNING: <b>", ("WARNING: <b>", "Call Trace:"), "TestX")
    run = KernelRun("6.1", Outcome.PASSED, warnings=(warning,))
    page = html.unescape(markdown.render(Matrix.of([Result(run)])))
    assert "kernel warning <code>WARNING: <b> (during TestX)</code>" in page
    assert "<pre>WARNING: <b>\nCall Trace:</pre>" in page


def test_a_failure_is_shown_with_its_package() -> None:
    tests = tuple(TestResult(package, "TestX", Outcome.FAILED) for package in ("m/a", "m/b"))
    text = html.unescape(
        markdown.render(Matrix.of([Result(KernelRun("6.1", Outcome.FAILED, tests=tests))]))
    )
    for package in ("m/a", "m/b"):
        assert f"<code>6.1</code> <code>{package}</code> <code>TestX</code>" in text


def run_on(kernel: str, outcome: Outcome = Outcome.FAILED) -> Result:
    warning = KernelWarning("WARNING: x", ("WARNING: x",), "TestX")
    tests = (TestResult("t", "TestX", outcome, reason="boom" if outcome else ""),)
    return Result(KernelRun(kernel, outcome, tests=tests, warnings=(warning,)))


def test_a_failure_and_a_warning_that_are_the_same_on_many_kernels_are_shown_once() -> None:
    page = html.unescape(markdown.render(Matrix.of(run_on(f"6.{n}") for n in range(9))))
    assert page.count("<details>") == 2
    assert "<code>all 9 kernels</code> <code>t</code> <code>TestX</code>" in page
    assert "<code>all 9 kernels</code> kernel warning" in page


def test_of_many_kernels_the_rows_name_those_that_failed() -> None:
    kernels = [run_on(f"6.{n}", Outcome.PASSED) for n in range(16)]
    page = html.unescape(markdown.render(Matrix.of([*kernels, run_on("5.10")])))
    assert "| <code>t</code> <code>TestX</code> | ✗ <code>5.10</code> |" in page

"""The texts of the reason codes, which the page shows and docs/reason-codes.md lists."""

import pytest
from markdown_it import MarkdownIt

from bpfmatrix.report.failure_items import code_text
from bpfmatrix.report.reason_codes import EXPLANATIONS
from bpfmatrix.results.verification import Code


def test_each_code_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Code)


def test_the_page_shows_an_explanation_as_markdown_does() -> None:
    for code, found in EXPLANATIONS.items():
        for text in (found.meaning, found.advice):
            assert MarkdownIt().renderInline(text).replace("&quot;", '"') in code_text(code)


def test_a_code_of_another_version_has_no_text() -> None:
    assert code_text("no-such-code") == ""


def test_the_page_names_commands_of_the_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/bpfmatrix", "report"])
    shown = code_text(Code.VERIFIER_REJECTED)
    assert "bpfmatrix debug</code> stops" in shown
    assert "invoke" not in "".join(map(code_text, Code))

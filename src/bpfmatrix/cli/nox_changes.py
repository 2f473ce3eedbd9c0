"""Changes to nox (2026.10), which lacks what the sessions of kernels need.

nox reads `-k EXPRESSION` as Python. There, an id such as 6.1 is a number, which is true of every
session, and `pre-push` is a subtraction.
"""

import ast
import re
import types
from collections.abc import Callable, Iterable
from typing import Any

from nox import manifest, tasks

__all__ = ["keyword_match", "quoted", "take_ids_as_keywords"]

# A word of an expression, such as `6.1`, `6.1@user` or `pre-push`, with or without quotes.
_WORD = re.compile(r"""(?P<quote>["']?)(?<![\w.+@-])(?P<word>[\w.+@-]+)(?![\w.+@-])(?P=quote)""")


def take_ids_as_keywords() -> None:
    """Let `nox -k` take ids of kernels, and names of sessions: `nox -k "6.1 and not arm64"`."""
    python = manifest.keyword_match
    if getattr(python, "takes_ids", False):
        return

    def match(expression: str, keywords: Iterable[str]) -> Any:
        return keyword_match(expression, list(keywords), python)

    match.takes_ids = True  # type: ignore[attr-defined]
    manifest.keyword_match = match
    # Before it asks for a match, nox checks that Python can parse the expression.
    tasks.ast = _quoting()  # type: ignore[assignment, attr-defined]


def _quoting() -> types.SimpleNamespace:
    """Return the module `ast` with a parser that takes expressions with ids, as if quoted."""

    def parse(source: Any, *args: Any, **options: Any) -> Any:
        is_expression = isinstance(source, str) and options.get("mode") == "eval"
        return ast.parse(quoted(source) if is_expression else source, *args, **options)

    return types.SimpleNamespace(**{**vars(ast), "parse": parse})


def quoted(expression: str) -> str:
    """Return an expression with each word that is no name in Python in quotes."""

    def in_quotes(word: re.Match[str]) -> str:
        return word[0] if word["word"].isidentifier() else f'"{word["word"]}"'

    return _WORD.sub(in_quotes, expression)


def keyword_match(
    expression: str, keywords: Iterable[str], python: Callable[[str, Iterable[str]], Any]
) -> Any:
    """Return whether an expression is true of a session with these keywords.

    `python` evaluates what is left when each word that is no name in Python is replaced by its
    truth. Numbers in such a word are whole numbers of a release: `6.1` is true of `kernel-6.1` and
    `kernel-6.1-arm64`, and not of `kernel-6.12`.
    """
    known = list(keywords)

    def truth(word: re.Match[str]) -> str:
        text = word["word"]
        if text.isidentifier() and not word["quote"]:
            return text
        before = r"(?<![\d.])" if text[0].isdigit() else ""
        after = r"(?!\d)" if text[-1].isdigit() else ""
        pattern = re.compile(before + re.escape(text) + after)
        return str(any(pattern.search(keyword) for keyword in known))

    return python(_WORD.sub(truth, expression), known)

"""Changes to nox (2026.10), which lacks what the sessions of kernels need.

nox reads `-k EXPRESSION` as Python. There, an id such as 6.1 is a number, which is true of every
session, and `pre-push` is a subtraction.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from nox import manifest

__all__ = ["keyword_match", "take_ids_as_keywords"]

# A word of an expression, such as `6.1`, `6.1@user` or `pre-push`. nox refuses what Python can't
# parse before it asks for a match, so that `"5.4.276"` and `"6.12-arm64-16k"` have to be quoted.
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

"""Why a test of TAP failed: the YAML block or the comments behind its point."""

import re
import textwrap
from collections.abc import Sequence

import yaml

from bpfmatrix.suite.formats.base import one_line

__all__ = ["of_comments", "of_yaml"]

# What Perl's Test::More says before it says what was wrong, and bats in front of the command.
_FAILED_TEST = re.compile(r"\s*(Failed (\(TODO\) )?test\b|at \S+ line \d+\.$|Looks like )")
_BATS_PLACE = re.compile(r"\(?(?:in|from) .*?file (.*?), line (\d+)\)?,?$")
# How YAML writes that there is no value.
_NOTHING = ("~", "null")
_BATS_COMMAND = re.compile(r"\s*(`.*' failed.*)$")


def of_comments(comments: Sequence[str]) -> str:
    """Return why a test failed, by comments as bats and Perl's Test::More write them, or `""`."""
    for number, text in enumerate(comments):
        if match := _BATS_COMMAND.match(text):
            places = [found for c in comments[:number] if (found := _BATS_PLACE.search(c))]
            return f"{match[1]} ({places[-1][1]}:{places[-1][2]})" if places else match[1]
    told = [text for text in comments if text.strip()]
    better = [text for text in told if not _FAILED_TEST.match(text)]
    return one_line((better or told)[:4])


def of_yaml(lines: Sequence[str]) -> str:
    """Return the message of a YAML block in one line, or `""`."""
    try:
        # Each scalar is a text: no tag of a producer's own, or wrong, can be in the way.
        block = yaml.load(textwrap.dedent("\n".join(lines)), Loader=yaml.BaseLoader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    if not isinstance(block, dict):
        return ""

    def scalar(*keys: str) -> str:
        # Lists may refer to themselves.
        values = (block.get(key) for key in keys)
        return next((value for value in values if isinstance(value, str) and value), "")

    message, found, wanted = scalar("message", "error"), scalar("found", "got", "actual"), ""
    message = "" if message in _NOTHING else message
    if found and (wanted := scalar("wanted", "expected")):
        found = f"got {found}, wanted {wanted}"
        message = f"{message}: {found}" if message else found
    return one_line(message.splitlines())

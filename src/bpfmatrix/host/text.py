"""Texts of messages: a number and its noun, and texts of others made safe to print.

What a guest, a kernel, a package or a file name says is data. `printable` makes it safe for a
terminal, and `inert` also for the log of a CI system, which reads commands out of it.
"""

import re

__all__ = ["command_positions", "counted", "inert", "printable", "without_commands"]

# Escape sequences of a terminal: strings up to their end, such as window titles (OSC, DCS, SOS, PM,
# APC), control sequences such as colours (CSI), and the two-character ones. ECMA-48, sections 5.4
# and 5.6; each may begin with ESC and a letter, or with one C1 character.
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b[ -/]*[0-~]"
)
# What is left of the control characters, but for tab and newline. Then the characters that change
# the direction of the text around them, so that it reads as another one (CVE-2021-42574); the line
# and paragraph separators; and lone surrogates, which stand for bytes that are not UTF-8.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]"
)
# The commands that CI systems read in a job's output. `##` and `::` are enough to recognise one;
# only the name must be there, as a space is put behind the first character.
_COMMANDS = re.compile(
    # GitHub: at the beginning of a line, behind white space (actions/runner, ActionCommand.cs).
    r"^\s*(:)(?=:[A-Za-z][^\n]*?::)"
    # GitHub's older form and Azure Pipelines, `##[error]`, `##vso[...]`; TeamCity, `##teamcity[`.
    # What follows the first character is looked at only, as it may hold another command.
    r"|(#)(?=#(?:[A-Za-z-]+\.?[A-Za-z]*)?\[)",
    re.MULTILINE,
)
# GitLab folds the lines between two of these (GitLab, "Custom collapsible sections"), and so does
# Travis. GitLab needs the escape sequence behind them, which `printable` removes; they are taken
# apart all the same.
_SECTIONS = re.compile(r"^\s*(section)_(?:start|end):\d+:|^\s*(travis)_fold:", re.MULTILINE)


def counted(count: int, one: str, more: str = "") -> str:
    """Return a count with its noun, such as `2 tests`; `more` is an irregular plural."""
    return f"{count} {one if count == 1 else more or one + 's'}"


def printable(text: str) -> str:
    """Return a text without what a terminal would obey.

    Escape sequences are removed. Other control characters, and those that change the direction of
    text, become U+FFFD; tabs and newlines stay.
    """
    text = _ESCAPES.sub("", text).replace("\r\n", "\n")
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def inert(text: str) -> str:
    """Return a text that is safe to print in a terminal, and in the log of a CI system."""
    return without_commands(printable(text))


def without_commands(text: str) -> str:
    """Return a text in which no CI system finds a command: `::error::` becomes `: :error::`."""
    parts, end = [], 0
    for at in command_positions(text):
        parts.append(text[end:at])
        end = at
    return " ".join([*parts, text[end:]])


def command_positions(text: str) -> list[int]:
    """Return where a space must be put into a text so that no CI system finds a command in it."""
    found = (*_COMMANDS.finditer(text), *_SECTIONS.finditer(text))
    return sorted({match.end(match.lastindex or 0) for match in found})

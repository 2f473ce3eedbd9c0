"""Why a Go test did not pass, in one line: its assertion, and not what it logged.

A message of the testing package has a file and a line, and its further lines are indented. The
package prints those of `t.Error` and `t.Log` alike. What tells them apart is their form, as
testify and quicktest write it, and the line of the source that the message names.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.suite.formats.base import one_line
from bpfmatrix.suite.formats.go_stacks import data_race, death

__all__ = ["FRAME", "SourceLines", "failure_reason", "last_line"]

# The lines of the testing package around the output of a test.
FRAME = re.compile(r"\s*(=== (RUN|PAUSE|CONT|NAME|ATTR)|--- (PASS|FAIL|SKIP):)")
_MESSAGE = re.compile(r"( *)([\w./+-]+\.go):(\d+): ?(.*)$")
_CONTINUED = "    "
# The first call of a line tells what printed a message: `t.Log(err.Error())` is a log.
_CALL = re.compile(r"\.(?:(?P<log>Logf?)|Errorf?|Fatalf?|Skipf?)\((?!\))")
# testify's labels, padded with spaces, and the lines below them (assert.labeledOutput).
_TESTIFY_LABEL = re.compile(r"\t([A-Z][a-z]+(?: [A-Z][a-z]+)?):\s*\t(.*)$")
_TESTIFY_MORE = re.compile(r"\t +\t(.*)$")
# quicktest's sections (quicktest.writeError): a key, and below it values that are indented.
_SECTION = re.compile(r"(\S.*):$")
# The signs of a difference as go-cmp writes it, and the words that announce it.
_DIFF_SIGN = re.compile(r"[-+][\s\u00a0]")
_DIFF_WORDS = re.compile(r"-\s*(want|got|old|x|expected|actual)\b.*\+|\+\s*(want|got)\b.*-")

SourceLines = Callable[[str, int], str]
"""Gives the line of a source file, by the file's name and the line's number, or `""`."""


@dataclass(frozen=True)
class _Message:
    file: str
    line: int
    lines: tuple[str, ...]


def failure_reason(
    output: str, source: SourceLines | None = None, folder: Path | None = None
) -> str:
    """Return why a test did not pass, in one line, or `""` if it says nothing but logs.

    That is a panic; or a data race; or the first assertion; or, where nobody knows which messages
    are assertions, the last one, since the message that ends a test comes last.
    """
    if died := death(output):
        return died.reason(folder)
    messages = [m for m in _messages(output) if any(line.strip() for line in m.lines)]
    calls = {m: _CALL.search(source(m.file, m.line)) if source else None for m in messages}
    logs = [m for m, call in calls.items() if call and call["log"]]
    certain = [m for m in messages if _form(m.lines) or (calls[m] and m not in logs)]
    possible = [m for m in messages if m not in logs]
    if race := data_race(output, folder):
        return race
    chosen = certain[:1] or possible[-1:]
    return _told(chosen[0].lines) if chosen else ""


def last_line(output: str) -> str:
    """Return the last line that a test printed by itself, or `""`."""
    lines = [line.strip() for line in output.splitlines() if not FRAME.match(line)]
    return next((line for line in reversed(lines) if line), "")


def _messages(output: str) -> list[_Message]:
    found: list[_Message] = []
    indent, file, number, lines = "", "", 0, list[str]()

    def end() -> None:
        if file:
            found.append(_Message(file, number, tuple(lines)))

    for line in output.splitlines():
        if match := _MESSAGE.match(line):
            end()
            indent, file, number = match[1] + _CONTINUED, match[2], int(match[3][:9])
            lines = [match[4]]
        elif file and (line.startswith(indent) or not line.strip()):
            lines.append(line.removeprefix(indent))
        elif file:
            end()
            file = ""
    end()
    return found


def _told(lines: Sequence[str]) -> str:
    form = _form(lines)
    return form(lines) if form else one_line(lines)


def _form(lines: Sequence[str]) -> Callable[[Sequence[str]], str] | None:
    """Return how to read a message that has the form of a library's assertion, or None."""
    if any(line.startswith("\tError:") for line in lines):
        return _testify
    first = next((line for line in lines if line.strip()), "")
    if first == "error:" and not lines[0].strip():
        return _quicktest
    if _DIFF_WORDS.search(first) and any(_DIFF_SIGN.match(line) for line in lines):
        return _diff
    return None


def _testify(lines: Sequence[str]) -> str:
    labels: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if match := _TESTIFY_LABEL.match(line):
            current = labels.setdefault(match[1], [])
            current.append(match[2])
        elif match := _TESTIFY_MORE.match(line):
            current.append(match[1])
    error = labels.get("Error", [])
    if "Diff:" in (stripped := [line.strip() for line in error]):
        error = error[: stripped.index("Diff:")]
    said = one_line(re.sub(r"^(expected|actual)\s*:", r"\1:", line.strip()) for line in error)
    messages = one_line(labels.get("Messages", []))
    return f"{messages}: {said}" if messages else said


def _quicktest(lines: Sequence[str]) -> str:
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if match := _SECTION.match(line):
            current = sections.setdefault(match[1], [])
        else:
            current.append(line)
    for key, value in sections.items():
        if key.startswith("diff "):  # "got" and "want" then have the same once more
            changed = [line.strip() for line in value if _DIFF_SIGN.match(line.strip())]
            sections = {k: sections.get(k, []) for k in ("error", "comment")} | {key: changed}
            break
    told = {key: one_line(value) for key, value in sections.items() if key != "stack"}
    error, comment = told.pop("error", ""), told.pop("comment", "")
    said = ", ".join(f"{key} {value}" for key, value in told.items())
    whole = one_line([f"{error}: {said}" if said else error])
    return f"{comment}: {whole}" if comment else whole


def _diff(lines: Sequence[str]) -> str:
    """Return what announces the difference, and the lines that differ."""
    first, *others = [line for line in lines if line.strip()]
    return one_line([first, *(line for line in others if _DIFF_SIGN.match(line))])

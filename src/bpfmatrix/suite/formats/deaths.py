"""What a program said last before it failed: a panic, an assertion, a traceback.

These are the forms that runtimes and C libraries print by themselves. Other output is no reason.
"""

import re
from collections.abc import Sequence

from bpfmatrix.suite.formats.base import one_line
from bpfmatrix.suite.formats.go_stacks import death

__all__ = ["last_words", "rust_panic"]

# Rust's default panic hook; before Rust 1.73 the message came first, in quotes.
_RUST_PANIC = re.compile(r"thread '.*?'(?: \(\d+\))? panicked at (.*)$")
_RUST_PLACE = re.compile(r"(\S+?:\d+):\d+:?$")
_RUST_OLD = re.compile(r"'(.*)', (\S+?:\d+):\d+$")
_RUST_END = re.compile(r"note: |stack backtrace:|thread '|Error: |---- ")
# assert() of glibc and musl.
_ASSERTIONS = re.compile(
    r".*?: ?(?P<file>[^\s:]+):(?P<line>\d+): .*?: (?P<what>Assertion [`'].*' failed\.)$"
    r"|(?P<musl>Assertion failed: .*)$"
)
# Reports of the compilers' sanitizers.
_SANITIZER = re.compile(
    r"(?:==\d+==)?(?:ERROR|WARNING): (\w+Sanitizer: .*)$|(.*: runtime error: .*)$"
)
_TRACEBACK = "Traceback (most recent call last):"
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: .*)?$")


def last_words(output: str) -> str:
    """Return why a program that failed died, by its output; `""` if that does not tell."""
    if died := death(output):
        return died.reason(None)
    lines = output.splitlines()
    if said := rust_panic(lines):
        return said
    for line in reversed(lines):
        if match := _ASSERTIONS.match(line):
            return (
                f"{match['what']} ({match['file']}:{match['line']})" if match["what"] else match[0]
            )
        if match := _SANITIZER.match(line):
            return one_line([match[1] or match[2]])
    return _exception(lines)


def rust_panic(lines: Sequence[str]) -> str:
    """Return the message of Rust's first panic in one line, with its place, or `""`."""
    for number, line in enumerate(lines):
        if not (match := _RUST_PANIC.match(line)):
            continue
        if old := _RUST_OLD.match(match[1]):
            return f"{old[1]} ({old[2]})"
        message = []
        for more in lines[number + 1 :]:
            if _RUST_END.match(more):
                break
            message.append(more)
        found = _RUST_PLACE.match(match[1])
        where = f" ({found[1]})" if found else ""
        return f"{one_line(message) or 'panicked'}{where}"
    return ""


def _exception(lines: Sequence[str]) -> str:
    """Return the last line of Python's last traceback, or `""`."""
    starts = [n for n, line in enumerate(lines) if line.strip() == _TRACEBACK]
    for line in lines[starts[-1] + 1 :] if starts else ():
        if line and not line.startswith(" "):
            return one_line([line]) if _EXCEPTION.match(line) else ""
    return ""

"""The shells' side of completion: how a shell asks for candidates, and how it is answered.

The scripts in this folder ask by starting the program with `--complete` and these variables:

- BPFMATRIX_COMPLETE, the name of the shell;
- for bash, COMP_LINE (up to the cursor) and COMP_WORDBREAKS, as bash describes them.

zsh and fish give the words after `--`; the last one is the one to complete. Without the variable,
it is a script of invoke's own that asks. That one gives the words without the last one if that is
empty, so both cases are answered, and the script leaves out what does not fit.

The answer is a line for each candidate. For zsh and fish a tab and its meaning follow.
"""

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources

from bpfmatrix.cli.completion.candidates import Candidate
from bpfmatrix.cli.options import SHELLS

__all__ = ["answer", "script", "split"]

Ask = Callable[[Sequence[str], str], list[Candidate]]
"""Gives the candidates for the words before the last one, and the beginning of that one."""

_HELP_CHARACTERS = 70
# What bash gives a meaning to.
_SPECIAL = re.compile(r"([^\w@%+=:,./~-])", re.ASCII)


def script(shell: str) -> str:
    """Return the script that a shell reads to complete `bpfmatrix` and invoke."""
    name = f"completion.{shell}"
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def answer(ask: Ask, words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the lines for a shell. `words` are those after `--` on the command line."""
    shell = environment.get("BPFMATRIX_COMPLETE", "")
    if shell == "bash":
        line = environment.get("COMP_LINE", "")
        before, current, is_quoted = split(line)
        found = ask(before[1:], current)
        skipped = 0 if is_quoted else _skipped(current, environment.get("COMP_WORDBREAKS", ""))
        texts = [each.text[skipped:] for each in found if _is_line(each.text)]
        return _lines(texts if is_quoted else [_SPECIAL.sub(r"\\\1", text) for text in texts])
    if shell in SHELLS:
        *before, current = words or [""]
        found = [each for each in ask(before, current) if _is_line(each.text)]
        return _lines(f"{each.text}\t{_short(each.help)}" for each in found)
    typed = _without_equals(words[1:])
    both = ask(typed, "") + (ask(typed[:-1], typed[-1]) if typed else [])
    return _lines(dict.fromkeys(each.text for each in both if _is_line(each.text)))


def split(line: str) -> tuple[list[str], str, bool]:
    """Split a command line of bash; return its words, the beginning of the last one, and whether
    that is quoted.

    It is the rule of POSIX for quotes, applied to a line that may end within them.
    """
    words: list[str] = []
    word, quote, is_escaped, is_begun = "", "", False, False
    for character in line:
        if is_escaped:
            # Within double quotes, a backslash is kept before what it does not quote.
            word += character if not quote or character in '"\\$`' else f"\\{character}"
            is_escaped = False
        elif character == "\\" and quote != "'":
            is_escaped = is_begun = True
        elif quote:
            quote, word = ("", word) if character == quote else (quote, word + character)
        elif character in "'\"":
            quote, is_begun = character, True
        elif character in " \t\n":
            if is_begun:
                words.append(word)
            word, is_begun = "", False
        else:
            word, is_begun = word + character, True
    return words, word, bool(quote)


def _skipped(current: str, breaks: str) -> int:
    """Return how many characters of the last word bash does not replace.

    A `=` or `:` begins another word for bash, so it replaces only what follows the last of them.
    """
    return max((current.rfind(each) for each in breaks if each not in "\"'"), default=-1) + 1


def _without_equals(words: Sequence[str]) -> list[str]:
    """Return words of bash, for which the `=` of `--kernel=6.1` is a word of its own."""
    return [word for word in words if word != "="]


def _is_line(text: str) -> bool:
    return text.isprintable() and bool(text)


def _short(help: str) -> str:
    """Return the first sentence of a help text, or what fits on a line of it."""
    first = " ".join(help.split()).split(". ")[0].removesuffix(".")
    printable = "".join(each for each in first if each.isprintable())
    return textwrap.shorten(printable, _HELP_CHARACTERS, placeholder="...")


def _lines(texts: Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)

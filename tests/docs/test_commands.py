"""The commands in README and docs: each has the name of a session or task, and options that it has.

Most are run by hand (CONTRIBUTING says how); this finds the one whose option was renamed.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import tasks
from invoke.exceptions import ParseError
from invoke.parser import Parser
from invoke.program import Program

from bpfmatrix.cli import options as all_options
from bpfmatrix.cli import sessions
from bpfmatrix.cli.options import AnyOption
from bpfmatrix.cli.tasks.verify import VERIFY_OPTIONS
from tests.docs.pages import PAGES, page_id
from tests.tool import REPOSITORY

_FRONT_ENDS = ("nox ", "invoke ", "bpfmatrix ")
# What stands for more: `invoke verify ... --sort insns`, `artifacts/*`, `invoke kernels.<task>`.
_PLACEHOLDER = re.compile(r"(^|\s)(\.\.\.|…)(\s|$)|<|\[")
# Sessions of a project with other kernels than this one.
_KERNEL_SESSION = re.compile(r"kernel-[\w.@-]+")
_OPTIONS: dict[str, Sequence[AnyOption]] = {
    "matrix": sessions.MATRIX_OPTIONS,
    "pre-push": sessions.MATRIX_OPTIONS,
    "verify": VERIFY_OPTIONS,
}


def commands(text: str) -> Iterator[str]:
    """Yield the command lines of a page: of its blocks, and those quoted in its sentences."""
    fenced = False
    previous = ""
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
            continue
        block = fenced or line.startswith("    ")
        if previous:  # a command that goes on in this line
            line = f"{previous} {line.strip()}"  # noqa: PLW2901
        elif block:
            line = line.strip().removeprefix("- run: ").removeprefix("run: ").removeprefix("$ ")  # noqa: PLW2901
        if block and line.endswith("\\"):
            previous = line[:-1].rstrip()
            continue
        previous = ""
        if block:
            yield from (line,) if _is_command(line) else ()
        else:
            yield from (span for span in re.findall(r"`([^`]+)`", line) if _is_command(span))


def _is_command(span: str) -> bool:
    return span.startswith(_FRONT_ENDS) and not span.startswith("nox > ")


def words_of(command: str) -> list[str]:
    """Return the words of a command, without what a shell does with its output, or a comment.

    A block may explain a command behind three spaces: `nox -s lint      checks all`.
    """
    words = shlex.split(re.split(r"\s{3,}|\s#\s", command)[0])
    ends = [n for n, word in enumerate(words) if word in ("|", "&&", ">", "2>&1", ";")]
    return words[: ends[0]] if ends else words


@cache
def _own_sessions() -> frozenset[str]:
    text = (REPOSITORY / "noxfile.py").read_text()
    named = re.findall(r'@nox\.session\(name="([^"]+)"', text)
    functions = re.findall(r"@nox\.session\([^\n]*\)\ndef (\w+)", text)
    return frozenset((*named, *functions))


def check_nox(words: Sequence[str]) -> None:
    """Raise an error if nox would refuse the command, or a session its options."""
    ours, _, options = _split(words, "--")
    if "-s" not in ours:
        assert ours in (["-l"], ["--list"]) or "-t" in ours or "-k" in ours, "no session"
        return
    begin = ours.index("-s") + 1
    names = [word for word in ours[begin:] if not word.startswith("-")]
    assert names, "no session"
    for name in names:
        # nox calls those with several Pythons `pythons-3.11`.
        if name in _own_sessions() or re.sub(r"-3\.\d+$", "", name) in _own_sessions():
            continue
        kernel = _KERNEL_SESSION.fullmatch(name)
        assert kernel or name in _OPTIONS, f"no session {name}"
        words_of_option = all_options.OBJECTS if name == "verify" else None
        sessions.parse(name, _OPTIONS.get(name, sessions.KERNEL_OPTIONS), options, words_of_option)


def check_invoke(words: Sequence[str]) -> None:
    """Raise ParseError if invoke would refuse the command."""
    own = [*words]
    if not own or own[0].startswith("-"):
        return  # an option of invoke's own: -l, --list, --print-completion-script
    if own[0] == "exec":
        return  # bpfmatrix.exec.client reads its options, and the command behind them
    if len(own) == 1:
        own.append("--help")  # a sentence names the task, which may need more words
    if own[1:] == ["--help"]:
        known = {context.name for context in tasks.namespace.to_contexts()}
        assert own[0] in known, f"no task {own[0]}"
        return
    try:
        Parser(tasks.namespace.to_contexts(), Program().initial_context).parse_argv(own)
    except ParseError as error:
        # A sentence names an option without its value: `invoke verify --annotate`.
        if f"{own[-1]} needed value" not in str(error):
            raise


def _split(words: Sequence[str], at: str) -> tuple[list[str], str, list[str]]:
    if at not in words:
        return [*words], "", []
    place = list(words).index(at)
    return [*words[:place]], at, [*words[place + 1 :]]


def _mistake(command: str) -> str | None:
    try:
        front_end, *words = words_of(command)
        if front_end == "nox":
            check_nox(words)
        else:
            check_invoke(words)
    except (AssertionError, ParseError, ValueError, SystemExit) as error:
        return f"{command}: {error}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_each_command_of_a_page_can_be_typed(page: Path) -> None:
    found = [one for one in commands(page.read_text()) if not _PLACEHOLDER.search(one)]
    assert [mistake for one in found if (mistake := _mistake(one))] == []


def test_commands_are_found() -> None:
    page = """
Type `nox -s kernel-6.1`, or `invoke run --kernel
6.1`, or `other`.

    $ bpfmatrix verify a.o \\
          --kernels 5.10
    invoke doctor        # what is missing

```console
$ nox -s matrix
build ...
```
"""
    assert list(commands(page)) == [
        "nox -s kernel-6.1",
        "bpfmatrix verify a.o --kernels 5.10",
        "invoke doctor        # what is missing",
        "nox -s matrix",
    ]
    assert words_of("invoke doctor        # what is missing") == ["invoke", "doctor"]
    assert words_of("bpfmatrix report a | less") == ["bpfmatrix", "report", "a"]


@pytest.mark.parametrize(
    "command",
    [
        "nox -s kernel-6.1 -- --rum TestA",
        "nox -s matrxi",
        "nox -s",
        "invoke verify --kernals 5.10",
        "bpfmatrix verfiy a.o",
    ],
)
def test_a_mistake_is_found(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _mistake(command)

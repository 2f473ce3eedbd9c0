"""Texts of others, made safe for terminals and for the logs of CI systems."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.host.text import counted, printable, without_commands


def test_a_count_has_its_noun() -> None:
    assert (counted(1, "test"), counted(2, "test")) == ("1 test", "2 tests")
    assert counted(0, "entry", "entries") == "0 entries"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1$r\x1b\\x", "x"),
        ("\x9b31mx\x9d0;t\x9cy", "xy"),
        ("\x1bcx", "x"),
        ("\x1b[2J\x1b[1;1Hpassed", "passed"),
        # One without an end takes nothing of the text with it.
        ("\x1b]0;the rest of the line\nnext", "0;the rest of the line\nnext"),
        ("old\rnew", "old\ufffdnew"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("a\x08\x7f\x00", "a\ufffd\ufffd\ufffd"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("a\u2028b", "a\ufffdb"),
        ("\udcff", "\ufffd"),
        ("größe ✓ 日本", "größe ✓ 日本"),
    ],
)
def test_nothing_in_a_text_is_obeyed_by_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.one_of(st.characters(), st.sampled_from("\x1b[]\x9b\x07m;\n\r"))))
def test_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert {c for c in shown if unicodedata.category(c) in ("Cc", "Cs")} <= {"\n", "\t"}


# As the runners read them: actions/runner (TryParseV2, TryParse), and Azure's agent.
_READ = re.compile(
    r"^\s*::[A-Za-z].*?::|##\[|##[A-Za-z-]+\.?[A-Za-z]*\[|^\s*section_(start|end):\d"
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::boo", ": :error::boo"),
        ("::error##[::", ": :error# #[::"),
        ("  ::warning file=a,line=1::boo", "  : :warning file=a,line=1::boo"),
        ("x\n::add-mask::e", "x\n: :add-mask::e"),
        ("a ##[group]", "a # #[group]"),
        ("##vso[task.complete result=Failed]", "# #vso[task.complete result=Failed]"),
        ("##teamcity[testFailed]", "# #teamcity[testFailed]"),
        ("section_start:1:x[collapsed=true]", "section _start:1:x[collapsed=true]"),
        ("travis_fold:start:x", "travis _fold:start:x"),
        # These are no commands.
        ("::1 localhost", "::1 localhost"),
        ("std::string::npos", "std::string::npos"),
        ("## heading [x]", "## heading [x]"),
    ],
)
def test_nothing_in_a_text_is_a_command_of_a_ci_system(text: str, shown: str) -> None:
    assert without_commands(text) == shown


@given(st.lists(st.sampled_from(["::", "error", "##", "[", "vso", "\n", " ", "#", ":", "]", "a"])))
def test_no_command_is_left(parts: list[str]) -> None:
    shown = without_commands("".join(parts))
    assert not any(_READ.search(line) for line in shown.splitlines())
    assert without_commands(shown) == shown

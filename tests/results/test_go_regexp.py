"""What Go's regular expressions refuse, as far as it is known before a guest is booted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.cli import options
from bpfmatrix.cli.values import read
from bpfmatrix.errors import UsageError
from bpfmatrix.results.go_regexp import refusal


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(", "( without )"),
        ("TestA/(", "( without )"),
        ("TestA|TestB)", ") without ("),
        ("[a", "[ without ]"),
        ("[^]", "[ without ]"),
        ("Test\\", "it ends with a backslash"),
        ("*", "nothing before * can be repeated"),
        ("a|*b", "nothing before * can be repeated"),
        ("(?i)+", "nothing before + can be repeated"),
        ("a**", "nothing before * can be repeated"),
        ("a+??", "nothing before ? can be repeated"),
        ("a{2}{3}", "nothing before {3} can be repeated"),
        ("a{2,1}", "{2,1} is no count of repetitions"),
        ("a{1001}", "{1001} is no count of repetitions"),
        ("(?=a)", "Go has no (?="),
        ("(?<!a)b", "Go has no (?<!"),
        (r"(a)\1", r"Go has no \1, which refers to a group"),
    ],
)
def test_what_go_refuses(text: str, why: str) -> None:
    assert refusal(text) == why


@pytest.mark.parametrize(
    "text",
    [
        *("", "TestA", "TestA/sub case", "Test[AB]$", "^TestA$|^TestB$", "a/b|c/d", "(a/b)", "[/]"),
        *("[]a]", "[^]a]", "[[:alpha:]]", "[[:alpha:]-]", "[\\]]", "]", "x{,5}", "{", "a{", "^*"),
        # What Python's own re refuses, or reads in another way.
        *(r"\Q(\E", r"\Q(", r"\pL", r"\p{Greek}+", r"\x{41}", r"\12", "a(?i)b", "(?i-s:a)", r"\z"),
        *("(?P<n>a)", "(?<n>a)", "a*?", "a{2}?", "$*"),
    ],
)
def test_what_go_takes_is_not_refused(text: str) -> None:
    assert refusal(text) is None


@given(st.text(st.sampled_from("ab()[]^$*+?{}1,|\\/:<=!PQEx."), max_size=12) | st.text())
def test_any_text_is_judged(text: str) -> None:
    assert refusal(text) != ""


def test_the_command_line_names_the_option() -> None:
    with pytest.raises(UsageError, match=r"^--run \(: not a regular expression: \( without \)$"):
        read([options.RUN], {"run": "("})
    with pytest.raises(UsageError, match=r"not a regular expression: \[ without \]$"):
        read([options.RUN], {"run": "internal/link:Test["})
    # A pattern for packages is no regular expression.
    assert read([options.RUN], {"run": "internal/*:TestA"})[options.RUN] == "internal/*:TestA"

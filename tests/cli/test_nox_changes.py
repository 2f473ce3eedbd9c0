"""Which sessions `nox -k` chooses, with ids of kernels in the expression."""

import pytest
from nox import manifest, tasks

from bpfmatrix.cli.nox_changes import keyword_match, take_ids_as_keywords

PYTHON = manifest.keyword_match
TAGS = {"arm64": ["kernels", "aarch64", "arm64"], "": ["kernels", "x86_64", "amd64"]}
SESSIONS = {
    "kernel-5.4.276": TAGS[""],
    "kernel-6.1": TAGS[""],
    "kernel-6.1-arm64": TAGS["arm64"],
    "kernel-6.1@user": TAGS[""],
    "kernel-6.12": TAGS[""],
    "kernel-6.12-arm64-16k": TAGS["arm64"],
    "kernel-16.1": TAGS[""],
    "pre-push": ["pre-push"],
    "tests": [],
}


def chosen(expression: str) -> list[str]:
    return [
        name for name, tags in SESSIONS.items() if keyword_match(expression, [name, *tags], PYTHON)
    ]


CHOICES = [
    ("6.1", ["kernel-6.1", "kernel-6.1-arm64", "kernel-6.1@user"]),
    ("6.1 and not arm64", ["kernel-6.1", "kernel-6.1@user"]),
    ("6.1 and aarch64", ["kernel-6.1-arm64"]),
    ("5.4.276 or 6.12-arm64-16k", ["kernel-5.4.276", "kernel-6.12-arm64-16k"]),
    ("6.12 and not '16k'", ["kernel-6.12"]),
    ('"5.4.276" or 16.1', ["kernel-5.4.276", "kernel-16.1"]),
    ("(6.1@user or pre-push)", ["kernel-6.1@user", "pre-push"]),
    ("kernel-6.12", ["kernel-6.12", "kernel-6.12-arm64-16k"]),
    ("5", ["kernel-5.4.276"]),
    ("not kernels", ["pre-push", "tests"]),
    ("test", ["tests"]),  # a part of a word, as nox itself has it
    ("7.3", []),
]


@pytest.mark.parametrize(("expression", "names"), CHOICES)
def test_a_keyword_may_be_the_id_of_a_kernel(expression: str, names: list[str]) -> None:
    assert chosen(expression) == names


@pytest.mark.parametrize("expression", [expression for expression, _ in CHOICES])
def test_nox_can_parse_it_as_python(expression: str) -> None:
    take_ids_as_keywords()
    tasks.ast.parse(expression, mode="eval")  # type: ignore[attr-defined]


def test_what_is_no_expression_is_refused() -> None:
    take_ids_as_keywords()
    with pytest.raises(SyntaxError):
        tasks.ast.parse("6.1 and (5.4.276", mode="eval")  # type: ignore[attr-defined]

"""Which sessions `nox -k` chooses, with ids of kernels in the expression."""

import pytest
from nox import manifest

from bpfmatrix.cli.nox_changes import keyword_match

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


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("6.1", ["kernel-6.1", "kernel-6.1-arm64", "kernel-6.1@user"]),
        ("6.1 and not arm64", ["kernel-6.1", "kernel-6.1@user"]),
        ("6.1 and aarch64", ["kernel-6.1-arm64"]),
        ("6.12 and not '16k'", ["kernel-6.12"]),
        ('"5.4.276" or 16.1', ["kernel-5.4.276", "kernel-16.1"]),
        ("(6.1@user or pre-push)", ["kernel-6.1@user", "pre-push"]),
        ("kernel-6.12", ["kernel-6.12", "kernel-6.12-arm64-16k"]),
        ("5", ["kernel-5.4.276"]),
        ("not kernels", ["pre-push", "tests"]),
        ("test", ["tests"]),  # a part of a word, as nox itself has it
        ("7.3", []),
    ],
)
def test_a_keyword_may_be_the_id_of_a_kernel(expression: str, names: list[str]) -> None:
    assert chosen(expression) == names

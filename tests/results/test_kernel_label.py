"""Labels of kernels: each says which entry of kernels.yaml it is, and which release it was."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.kernel_label import heading, kernel_label


@pytest.mark.parametrize(
    ("kernel", "version", "label"),
    [
        ("6.1", "6.1.192", "6.1.192"),
        ("6.1.192", "6.1.192", "6.1.192"),
        ("6.1", "", "6.1"),
        ("6.1-arm64", "6.1.192", "6.1-arm64 (6.1.192)"),
        ("6.1@user", "6.1.192", "6.1@user (6.1.192)"),
        ("newest", "7.3.4", "newest (7.3.4)"),
        ("6.1", "6.12.118", "6.1 (6.12.118)"),
        ("7.3", "7.3", "7.3"),
    ],
)
def test_the_id_is_shown_unless_the_release_says_it(kernel: str, version: str, label: str) -> None:
    assert kernel_label(kernel, version) == label


def test_two_entries_of_one_release_are_told_apart() -> None:
    ids = ["6.1", "6.1.192", "6.1-debug", "6.1@user"]
    assert [kernel_label(id, "6.1.192", ids) for id in ids] == [
        "6.1 (6.1.192)",
        "6.1.192",
        "6.1-debug (6.1.192)",
        "6.1@user (6.1.192)",
    ]


ids = st.from_regex(r"[67](\.1(\.[0-9])?)?([-@](arm64|debug))?", fullmatch=True)


@given(
    st.lists(
        st.tuples(ids, st.sampled_from(["", "6.1", "6.1.1", "7.1.2"])), unique_by=lambda p: p[0]
    )
)
def test_no_two_labels_are_the_same(kernels: list[tuple[str, str]]) -> None:
    names = [id for id, _ in kernels]
    labels = [kernel_label(id, version, names) for id, version in kernels]
    assert all(a != b for a, b in itertools.combinations(labels, 2))


def test_a_heading_has_the_release_in_a_line_of_its_own() -> None:
    assert heading("6.1-arm64 (6.1.192)") == "6.1-arm64\n(6.1.192)"
    assert heading("6.1.192") == "6.1.192"

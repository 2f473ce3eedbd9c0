import pytest

from bpfmatrix.host.versions import (
    all_numbers,
    leading_version,
    neighbour,
    numbers,
    of_tool,
    series,
    upstream,
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("6.1", (6, 1)),
        ("6.1.192", (6, 1, 192)),
        ("6.1.0-56-cloud-amd64", (6, 1, 0)),
        ("5.10.262+deb11", (5, 10, 262)),
        ("7.3-rc1", (7, 3)),
        ("6", ()),
        ("rhel9", ()),
        ("", ()),
    ],
)
def test_the_numbers_of_a_release(text: str, found: tuple[int, ...]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("others", "found"),
    [
        (["5.10", "6.12", "6.2", "7.3"], "6.2"),
        (["5.10", "5.4", "rhel9"], "5.10"),
        (["6.1.5", "6.1-mine"], ""),
        ([], ""),
    ],
)
def test_the_neighbour_is_the_next_newer_series(others: list[str], found: str) -> None:
    assert neighbour("6.1", others) == found


def test_what_is_no_release_has_no_neighbour() -> None:
    assert neighbour("rhel9", ["5.10", "6.12"]) == ""


def test_what_a_text_begins_with() -> None:
    assert [leading_version(text) for text in ("6.1", "6.1.192-arm64", "6", "newest")] == [
        *("6.1", "6.1.192", "", "")
    ]
    assert [series(text) for text in ("6.1.192", "6.12", "7", "")] == ["6.1", "6.12", "", ""]


def test_numbers_are_compared_by_their_value() -> None:
    assert all_numbers("vmlinuz-6.1.9-rc2") == (6, 1, 9, 2)
    assert sorted(["6.1.10", "6.1.9"], key=all_numbers) == ["6.1.9", "6.1.10"]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("6.1.192-2", "6.1.192"),
        ("7.3.4-1~bpo13+1", "7.3.4"),
        ("1:5.14.0-427.el9", "5.14.0"),
        ("trixie", "trixie"),
    ],
)
def test_the_upstream_version_of_a_package(version: str, expected: str) -> None:
    assert upstream(version) == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright", "7.2.22"),
        ("go version go1.24.4 linux/amd64", "1.24.4"),
        ("Debian clang version 19.1.7-rc1", "19.1.7-rc1"),
        ("no number at all", ""),
    ],
)
def test_the_version_of_a_tool(output: str, expected: str) -> None:
    assert of_tool(output) == expected

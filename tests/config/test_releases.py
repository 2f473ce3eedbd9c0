import pytest

from bpfmatrix.config.releases import neighbour, numbers


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("6.1", (6, 1)),
        ("6.1.192", (6, 1, 192)),
        ("6.1.0-56-cloud-amd64", (6, 1, 0)),
        ("6", ()),
        ("rhel9", ()),
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

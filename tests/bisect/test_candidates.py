"""Which kernels bisect may try between two ends, and which releases no source offers."""

import pytest

from bpfmatrix.bisect.candidates import between
from bpfmatrix.config.models import Config
from bpfmatrix.errors import UsageError
from bpfmatrix.kernels.series import Available, LeftOut

APT = {"source": {"apt": {"suite": "bookworm-security"}}}
DECLARED = {
    "5.10": APT,
    "6.1": APT,
    "6.12": APT,
    "6.12.16": {"source": {"oci": "example.org/kernel:6.12.16"}},
    "7.3": APT,
    "6.6-arm64": {"arch": "aarch64", **APT},
    "lts": APT,
}
SERIES = ("6.16", "6.18")
RELEASES = ("6.1.187", "6.1.190", "6.1.192", "6.16.3", "6.17.2", "6.17.13")


@pytest.fixture
def available() -> Available:
    config = Config.model_validate({"kernels": {**DECLARED, **dict.fromkeys(SERIES, APT)}})
    releases = Config.model_validate({"kernels": dict.fromkeys(RELEASES, APT)}).kernels
    gone = LeftOut("6.19", "x86_64", "6.19 is left out: its modules are gone")
    return Available(config, SERIES, releases, (gone,))


def test_each_series_has_one_candidate_in_the_order_of_releases(available: Available) -> None:
    # The entry for a series comes before its releases, and the newest release before older ones.
    expected = ("5.10", "6.1", "6.12", "6.16", "6.17.13", "6.18", "7.3")
    assert between(available, "5.10", "7.3").ids == expected
    assert between(available, "7.3", "5.10").ids == expected


def test_the_end_is_the_only_candidate_of_its_series(available: Available) -> None:
    assert between(available, "6.12.16", "6.18").ids == ("6.12.16", "6.16", "6.17.13", "6.18")


def test_between_two_releases_of_a_series_lie_its_releases(available: Available) -> None:
    assert between(available, "6.1.192", "6.1.187").ids == ("6.1.187", "6.1.190", "6.1.192")


def test_releases_that_no_source_offers_are_listed(available: Available) -> None:
    found = between(available, "5.10", "7.3")
    assert found.never_offered("5.10", "6.1") == [*(f"5.{n}" for n in range(11, 20)), "6.0"]
    assert found.never_offered("7.3", "6.18") == ["7.0", "7.1", "7.2"]
    assert found.never_offered("6.16", "6.17.13") == []
    assert [gone.id for gone in found.missing_between("6.18", "7.3")] == ["6.19"]
    assert found.missing_between("6.1", "6.18") == []


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("5.10", "5.10", "the same release"),
        ("5.10", "lts", "does not begin with a release"),
        ("5.10", "6.6-arm64", "two architectures"),
        ("5.10", "6.13", "no kernel '6.13'"),
    ],
)
def test_ends_that_can_not_be_compared_are_refused(
    available: Available, one: str, other: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        between(available, one, other)


def test_all_kernels_have_the_profile_of_the_ends(available: Available) -> None:
    ids = between(available, "6.16@user", "7.3@user").ids
    assert ids == ("6.16@user", "6.17.13@user", "6.18@user", "7.3@user")
    with pytest.raises(UsageError, match=r"6\.16@user and 7\.3 do not have the same profile"):
        between(available, "6.16@user", "7.3")

"""Which kernels bisect may try, in which order, and which releases no source offers."""

import dataclasses

import pytest

from bpfmatrix.bisect.candidates import among
from bpfmatrix.config.models import Config
from bpfmatrix.errors import UsageError
from bpfmatrix.kernels.releases import Releases, place_of
from bpfmatrix.kernels.series import LeftOut

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
# What a series would resolve to, as far as that is known.
KNOWN = {"6.1": "6.1.190", "6.12": "6.12.117"}


@pytest.fixture
def releases() -> Releases:
    entries = {**DECLARED, **dict.fromkeys((*SERIES, *RELEASES), APT)}
    config = Config.model_validate({"kernels": entries})
    places = {id: place_of(KNOWN.get(id, id)) for id in config.kernels if place_of(id)}
    gone = LeftOut("6.19", "x86_64", "6.19 is left out: its modules are gone")
    return Releases(config, places, frozenset(DECLARED), (gone,), (), frozenset())


def test_kernels_are_in_the_order_of_releases_and_each_release_is_there_once(
    releases: Releases,
) -> None:
    # What 6.1 would run is 6.1.190, which is therefore not there by that name.
    expected = (
        *("5.10", "6.1.187", "6.1", "6.1.192", "6.12.16", "6.12"),
        *("6.16.3", "6.16", "6.17.2", "6.17.13", "6.18", "7.3"),
    )
    assert among(releases).ids == expected
    assert among(releases, "5.10", "7.3").ids == expected
    assert among(releases, "7.3", "5.10").ids == expected
    # An end that is not named leaves that side open.
    assert among(releases, "6.12").ids == expected
    assert among(releases, "6.12", "6.17.2").ids == ("6.12", "6.16.3", "6.16", "6.17.2")


def test_one_of_each_series_comes_first_and_then_the_ends_of_each(releases: Releases) -> None:
    first, then = among(releases).sooner
    # A declared kernel before others, and otherwise the newest.
    assert first == {"5.10", "6.1", "6.12", "6.16", "6.17.13", "6.18", "7.3"}
    assert {"6.1.187", "6.1.192", "6.12.16", "6.16.3", "6.17.2"} <= then
    # An end that was named stands for its series.
    assert "6.1.192" in among(releases, "6.1.192", "7.3").sooner[0]


def test_what_has_to_be_built_stands_for_no_series_that_has_another_kernel(
    releases: Releases,
) -> None:
    to_build = dataclasses.replace(releases, unbuilt=frozenset({"6.17.13", "6.16", "7.3"}))
    first, _ = among(to_build).sooner
    assert first & {"6.17.2", "6.17.13", "6.16.3", "6.16", "7.3"} == {"6.17.2", "6.16.3", "7.3"}


def test_between_two_releases_of_a_series_lie_its_releases(releases: Releases) -> None:
    assert among(releases, "6.1.192", "6.1.187").ids == ("6.1.187", "6.1", "6.1.192")


def test_releases_that_no_source_offers_are_listed(releases: Releases) -> None:
    found = among(releases, "5.10", "7.3")
    assert found.never_offered("5.10", "6.1") == [*(f"5.{n}" for n in range(11, 20)), "6.0"]
    assert found.never_offered("7.3", "6.18") == ["7.0", "7.1", "7.2"]
    assert found.never_offered("6.16", "6.17.13") == []
    assert [gone.id for gone in found.missing_between("6.18", "7.3")] == ["6.19"]
    assert found.missing_between("6.1", "6.18") == []


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("5.10", "5.10", "the same release"),
        ("6.1", "6.1.190", "the same release"),
        ("5.10", "lts", "does not begin with a release"),
        ("5.10", "6.6-arm64", "two architectures"),
        ("5.10", "6.13", "no kernel '6.13'"),
    ],
)
def test_ends_that_can_not_be_compared_are_refused(
    releases: Releases, one: str, other: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        among(releases, one, other)


def test_all_kernels_have_the_architecture_and_the_profile_of_the_ends(releases: Releases) -> None:
    ids = among(releases, "6.16@user", "7.3@user").ids
    assert ids == ("6.16@user", "6.17.2@user", "6.17.13@user", "6.18@user", "7.3@user")
    assert among(releases, "6.17.13@user").ids[-1] == "7.3@user"
    assert among(releases, "6.6-arm64").ids == ("6.6-arm64",)
    with pytest.raises(UsageError, match=r"6\.16@user and 7\.3 do not have the same profile"):
        among(releases, "6.16@user", "7.3")


def test_kernels_of_another_flavour_are_no_candidates(releases: Releases) -> None:
    def of(package: str) -> dict[str, object]:
        return {"source": {"apt": {"suite": "s", "package": package}}}

    entries = {
        "6.1-rt": of("linux-image-6.1.*-rt-amd64"),
        "6.1": APT,
        "6.8": of("linux-image-6.8.*-generic"),
        "6.12-rt": of("linux-image-6.12.*-rt-amd64"),
        "6.12": {"source": {"oci": "example.org/kernel:6.12.16"}},
        "7.3": APT,
        "6.7.2": of("linux-image-6.7.2-rt-amd64"),  # made, of what the suites have
    }
    declared = frozenset(entries) - {"6.7.2"}
    config = Config.model_validate({"kernels": entries})
    places = {id: place_of(id) for id in config.kernels}
    # So that they would not be left out for being the same release as another.
    places |= {"6.1-rt": (6, 1, 1), "6.12-rt": (6, 12, 1)}
    found = Releases(config, places, declared, (), (), frozenset())
    assert among(found).ids == ("6.1", "6.8", "6.12", "7.3")
    assert among(found, "6.1", "7.3").ids == ("6.1", "6.8", "6.12", "7.3")
    assert among(found, "6.1-rt", "6.12-rt").ids == ("6.1-rt", "6.7.2", "6.12-rt")
    assert among(found, "6.1-rt", "7.3").ids == (
        *("6.1-rt", "6.1", "6.7.2", "6.8", "6.12-rt", "6.12", "7.3"),
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("6.1.187", (6, 1, 187)),
        ("6.1", (6, 1, float("inf"))),
        ("6.1-arm64", (6, 1, float("inf"))),
        ("6.1.187-arm64", (6, 1, 187)),
        ("5.14.0-427.el9", (5, 14, 0, 427)),
        ("5.14.0-427.13.1.el9_4", (5, 14, 0, 427, 13, 1)),
        ("6.2-rc3", (6, 2, -1, 3)),
        ("6.2.0-rc3", (6, 2, -1, 3)),
        ("6.2-rc3-arm64", (6, 2, -1, 3)),
        ("6.1-2", (6, 1, float("inf"))),
        ("6.1.0-2", (6, 1, 0, 2)),
        ("6", ()),
        ("lts", ()),
    ],
)
def test_the_place_of_an_id(text: str, place: tuple[float, ...]) -> None:
    assert place_of(text) == place


def test_release_candidates_come_before_the_first_release() -> None:
    ids = ["6.1.192", "6.1", "6.2-rc3", "6.2.0-rc10", "6.2.0", "6.2.1", "6.2"]
    assert sorted(ids, key=place_of) == ids

"""The kernels that a bisection may try, and the releases between them that no source has.

They are in the order of their releases. Of each series, one kernel stands for the others: one that
is declared, and often cached. The others are tried only if the answer changes beside it. Then comes
the oldest of the newer series: most of what programs need came with the first release of a series.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bpfmatrix.config.kernel_ids import kernel_of, names_profile, profile_of, with_profile
from bpfmatrix.config.models import Config
from bpfmatrix.errors import UsageError
from bpfmatrix.kernels.releases import Place, Releases, place_of
from bpfmatrix.kernels.series import LeftOut, common_flavours, flavour_of

__all__ = ["Candidates", "among"]

# The last minor number of each major release (kernel.org); the newest major has none yet.
_LAST_MINOR = {3: 19, 4: 20, 5: 19, 6: 19}


@dataclass(frozen=True)
class Candidates:
    """The kernels that can be tried."""

    config: Config
    """A configuration with an entry for each kernel."""
    ids: tuple[str, ...]
    """The ids of the kernels, oldest first. An end that was named is the first or the last one."""
    sooner: tuple[frozenset[str], ...]
    """The ids that are tried sooner than others: one of each series, then the ends of each."""
    missing: tuple[LeftOut, ...]
    """The series that a source has only in part."""

    def missing_between(self, one: str, other: str) -> list[LeftOut]:
        """Return the missing series that lie between two kernels."""
        low, high = sorted(place_of(id)[:2] for id in (one, other))
        return [gone for gone in self.missing if low < place_of(gone.id)[:2] < high]

    def never_offered(self, one: str, other: str) -> list[str]:
        """Return the series between two kernels, both excluded, that no source has at all."""
        known = (*self.ids, *(gone.id for gone in self.missing))
        return _others(known, *sorted((one, other), key=place_of))


def among(releases: Releases, one: str | None = None, other: str | None = None) -> Candidates:
    """Return the kernels from one end to the other, which are ids in any order.

    Without both ends they are all of the kernels; without an end, all of the default architecture.
    Kernels of a flavour that is not common, such as `6.1-rt`, are left out unless an end is one.
    An end that was named may be a kernel that has to be built. If the ends have a profile, all
    kernels have it. UsageError if an id does not begin with a release, if both are the same
    release, or if they are of different architectures or profiles.
    """
    named = [id for id in (one, other) if id is not None]
    profile = _common_profile(named)
    ends = [kernel_of(id) for id in named]
    config = releases.config
    arch = config.kernel(ends[0]).arch if ends else config.defaults.arch
    for id in ends:
        if not place_of(id):
            raise UsageError(
                f"{id} does not begin with a release, so it has no place among the others",
                "Name two kernels such as 5.10 and 6.12.",
            )
        if config.kernel(id).arch != arch:
            raise UsageError(f"{ends[0]} and {ends[1]} are of two architectures")
    flavours = _flavours(releases, ends, arch)
    places = {
        id: place
        for id, place in releases.places.items()
        if config.kernel(id).arch == arch and flavour_of(config.kernel(id)) in flavours
    }
    places.update({id: places.get(id) or place_of(id) for id in ends})
    if len(ends) == 2:
        low, high = sorted(places[id] for id in ends)
        if low == high:
            raise UsageError(f"{ends[0]} and {ends[1]} are the same release")
        places = {id: place for id, place in places.items() if id in ends or low < place < high}
    preferred = [*ends, *(id for id in config.kernels if id in releases.preferred)]
    at_hand = [id for id in config.kernels if id not in releases.unbuilt]
    ids = _one_of_each_place(places, [*preferred, *at_hand])
    series = _one_of_each_series(ids, places, at_hand, preferred)
    oldest = _one_of_each_series(reversed(ids), places)
    newest = _one_of_each_series(ids, places)
    groups = (series, (*oldest, *newest))
    return Candidates(
        config,
        tuple(with_profile(id, profile) for id in ids),
        tuple(frozenset(with_profile(id, profile) for id in group) for group in groups),
        tuple(gone for gone in releases.left_out if gone.arch == arch),
    )


def _flavours(releases: Releases, ends: Collection[str], arch: str) -> frozenset[str]:
    """Return the flavours that can be compared with the ends; "" is no flavour."""
    config = releases.config
    declared = {id: entry for id, entry in config.kernels.items() if id in releases.preferred}
    common = common_flavours(config.model_copy(update={"kernels": declared}), arch) | {""}
    of_ends = frozenset(flavour_of(config.kernel(id)) for id in ends)
    return of_ends | common if not of_ends or of_ends & common else of_ends | {""}


def _common_profile(ids: Iterable[str]) -> str:
    found = {}
    for id in ids:
        if names_profile(id) and not profile_of(id):
            raise UsageError(f"{id}: no profile is named behind the @")
        found[profile_of(id)] = id
    if len(found) > 1:
        raise UsageError(f"{' and '.join(found.values())} do not have the same profile")
    return next(iter(found), "")


def _one_of_each_place(places: dict[str, Place], preferred: list[str]) -> list[str]:
    """Return one id for each release, in the order of releases."""
    best: dict[Place, str] = {}
    for id in (*preferred, *places):
        if id in places:
            best.setdefault(places[id], id)
    return [best[place] for place in sorted(best)]


def _one_of_each_series(
    ids: Iterable[str], places: dict[str, Place], *preferred: Collection[str]
) -> list[str]:
    """Return one id for each series: the last one, or the last one that is preferred.

    Of several groups that are preferred, the last one counts most.
    """
    best: dict[Place, str] = {}
    for id in sorted(ids, key=lambda id: [id in group for group in reversed(preferred)]):
        best[places[id][:2]] = id
    return list(best.values())


def _others(known: Iterable[str], low: str, high: str) -> list[str]:
    have = {place_of(id)[:2] for id in known}
    major, minor = map(int, place_of(low)[:2])
    end = place_of(high)[:2]
    found: list[str] = []
    while True:
        past_last = minor >= _LAST_MINOR.get(major, end[1] if major == end[0] else minor)
        major, minor = (major + 1, 0) if past_last else (major, minor + 1)
        if (major, minor) >= end:
            return found
        if (major, minor) not in have:
            found.append(f"{major}.{minor}")

"""The kernels that a bisection may try, and the releases between them that no source has.

There is one kernel for each series (`6.1`). Single releases are only tried if both ends are of the
same series: stable series are maintained side by side, so the releases of several have no order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bpfmatrix.config.kernel_ids import kernel_of, names_profile, profile_of, with_profile
from bpfmatrix.config.models import Config
from bpfmatrix.errors import UsageError
from bpfmatrix.host.versions import numbers
from bpfmatrix.kernels.series import Available, LeftOut

__all__ = ["Candidates", "between"]

# The last minor number of each major release (kernel.org); the newest major has none yet.
_LAST_MINOR = {3: 19, 4: 20, 5: 19, 6: 19}


@dataclass(frozen=True)
class Candidates:
    """The two ends of a bisection, and the kernels between them."""

    config: Config
    """A configuration with an entry for each kernel."""
    ids: tuple[str, ...]
    """The ids of the kernels, oldest first. The first and the last one are the ends."""
    missing: tuple[LeftOut, ...]
    """The series between the ends that a source has only in part."""

    def missing_between(self, one: str, other: str) -> list[LeftOut]:
        """Return the missing series that lie between two kernels."""
        low, high = sorted(_release(id)[:2] for id in (one, other))
        return [gone for gone in self.missing if low < _release(gone.id)[:2] < high]

    def never_offered(self, one: str, other: str) -> list[str]:
        """Return the series between two kernels, both excluded, that no source has at all."""
        known = (*self.ids, *(gone.id for gone in self.missing))
        return _others(known, *sorted((one, other), key=_release))


def between(available: Available, one: str, other: str) -> Candidates:
    """Return the kernels from one end to the other, which are ids in any order.

    If the ends have a profile, all kernels have it. UsageError if an id does not begin with a
    release, if both are the same release, or if they are of different architectures or profiles.
    """
    for id in (one, other):
        if names_profile(id) and not profile_of(id):
            raise UsageError(f"{id}: no profile is named behind the @")
    profile = profile_of(one)
    if profile != profile_of(other):
        raise UsageError(f"{one} and {other} do not have the same profile")
    one, other = kernel_of(one), kernel_of(other)
    kernels = {**available.releases, **available.config.kernels}
    config = available.config.model_copy(update={"kernels": kernels})
    ends = sorted((one, other), key=_release)
    arch = config.kernel(ends[0]).arch
    for id in ends:
        if not _release(id):
            raise UsageError(
                f"{id} does not begin with a release, so it has no place among the others",
                "Name two kernels such as 5.10 and 6.12.",
            )
        if config.kernel(id).arch != arch:
            raise UsageError(f"{ends[0]} and {ends[1]} are of two architectures")
    low, high = map(_release, ends)
    if low == high:
        raise UsageError(f"{one} and {other} are the same release")
    same = [id for id in kernels if config.kernel(id).arch == arch]
    if low[:2] == high[:2]:
        pool = [id for id in same if _release(id)[:2] == low[:2] and low < _release(id) < high]
    else:
        pool = [id for id in same if low[:2] < _release(id)[:2] < high[:2]]
        pool = _one_of_each_series(pool, set(available.config.kernels))
    missing = tuple(
        gone
        for gone in available.left_out
        if gone.arch == arch and low[:2] < _release(gone.id)[:2] < high[:2]
    )
    inner = sorted(set(pool) - set(ends), key=_release)
    ids = (ends[0], *inner, ends[1])
    return Candidates(config, tuple(with_profile(id, profile) for id in ids), missing)


def _others(known: Iterable[str], low: str, high: str) -> list[str]:
    have = {_release(id)[:2] for id in known}
    major, minor = _release(low)[:2]
    end = _release(high)[:2]
    found: list[str] = []
    while True:
        past_last = minor >= _LAST_MINOR.get(major, end[1] if major == end[0] else minor)
        major, minor = (major + 1, 0) if past_last else (major, minor + 1)
        if (major, minor) >= end:
            return found
        if (major, minor) not in have:
            found.append(f"{major}.{minor}")


def _release(id: str) -> tuple[int, ...]:
    return numbers(id)


def _one_of_each_series(ids: Iterable[str], preferred: set[str]) -> list[str]:
    """Return one id for each series.

    An id in `preferred` is taken before others, a series before its releases, and a newer release
    before an older one.
    """
    best: dict[tuple[int, ...], str] = {}
    for id in sorted(ids, key=lambda id: (id in preferred, len(_release(id)) == 2, _release(id))):
        best[_release(id)[:2]] = id
    return list(best.values())

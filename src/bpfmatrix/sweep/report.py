"""What a sweep has found: the kernels, how they stand to the last sweep, and what differs."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bpfmatrix.config.kernel_ids import kernel_of, profile_of, with_profile
from bpfmatrix.config.models import Config
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.kernels.series import Available
from bpfmatrix.sweep.differences import Compared, Effect
from bpfmatrix.sweep.plan import Results, Standing, Target, is_conclusive, standing
from bpfmatrix.sweep.state import Part, Result

__all__ = ["Ends", "SweepReport", "Swept", "bisection_ends", "gone", "moved", "swept"]


@dataclass(frozen=True)
class Swept:
    """One kernel of a sweep."""

    id: str
    standing: Standing
    version: str
    """The upstream release that its source has now."""
    before: str
    """The upstream release of its last result; empty if there is none."""


@dataclass(frozen=True)
class SweepReport:
    """All of a sweep."""

    kernels: tuple[Swept, ...]
    """Those that could be had."""
    unavailable: Mapping[str, str]
    """Why a kernel is not available, by its id. Its last result stays."""
    notes: tuple[str, ...]
    """Sentences: sources that could not be asked, and series that they have only in part."""
    gone: Mapping[str, str]
    """The kernels that no source offers any more, with the releases of their last results."""
    compared: tuple[Compared, ...]
    """The results that are new, each beside what it is compared with."""
    swept_at: datetime | None
    """When the last sweep ended; None if there was none."""

    @property
    def inconclusive(self) -> list[Result]:
        """The runs that say nothing about their kernels. The next sweep tries them again."""
        return [one.now for one in self.compared if not is_conclusive(one.now)]

    @property
    def conclusive(self) -> list[tuple[Part, str]]:
        """The parts and kernels whose results the next sweep compares with."""
        return [(one.part, one.now.kernel) for one in self.compared if is_conclusive(one.now)]

    def having(self, effect: Effect) -> int:
        """Return the number of differences with this effect."""
        return sum(len(one.having(effect)) for one in self.compared)

    @property
    def exit_status(self) -> int:
        """1 for a regression, or for an available kernel that could not be run; else 0."""
        return 1 if self.having(Effect.REGRESSION) or self.inconclusive else 0

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON can represent it. Reasons and texts are for people."""
        return {
            "last_sweep": self.swept_at.isoformat() if self.swept_at else None,
            "exit_status": self.exit_status,
            "kernels": [
                {
                    "kernel": one.id,
                    "standing": one.standing,
                    "version": one.version,
                    "before": one.before or None,
                }
                for one in self.kernels
            ],
            "unavailable": dict(self.unavailable),
            "gone": dict(self.gone),
            "notes": list(self.notes),
            "results": [_as_json(one) for one in self.compared],
        }


def _as_json(one: Compared) -> dict[str, Any]:
    base = one.base
    return {
        "kernel": one.now.kernel,
        "part": one.part,
        "version": one.now.version,
        "outcome": one.now.outcome,
        "reason": one.now.reason,
        "compared_with": {"kernel": base.kernel, "version": base.version} if base else None,
        "differences": [
            {
                "effect": difference.effect,
                "group": difference.group,
                "name": difference.name,
                "text": difference.text,
            }
            for difference in one.differences
        ],
    }


def swept(targets: Iterable[Target], last: Results) -> tuple[Swept, ...]:
    """Return how each kernel stands to the last results."""
    found = []
    for target in targets:
        known = [last[part][target.id] for part in Part if target.id in last[part]]
        before = known[0].version if known else ""
        found.append(Swept(target.id, standing(target, last), target.version, before))
    return tuple(found)


def gone(last: Results, ids: Sequence[str], available: Available) -> dict[str, str]:
    """Return the kernels with a result that are neither swept nor known to any source any more."""
    known = {*ids, *available.config.kernels, *(one.id for one in available.left_out)}
    found = {}
    for part in Part:
        for id, result in last[part].items():
            if id not in known and kernel_of(id) not in known:
                found[id] = result.version
    return found


@dataclass(frozen=True)
class Ends:
    """Between which kernels a regression came."""

    good: str
    bad: str
    missing: tuple[str, ...] = ()
    """Those of the two that no source offers any more."""


def moved(one: Compared) -> bool:
    """Whether a result is compared with that of another release, or of another kernel."""
    base, now = one.base, one.now
    return base is not None and (base.kernel, base.version) != (now.kernel, now.version)


def bisection_ends(one: Compared, config: Config, offered: Collection[str]) -> Ends | None:
    """Return the ids of the kernels for `bisect`; None if it was not the kernel that changed.

    `offered` are the ids of all kernels and releases that a source has.
    """
    base, now = one.base, one.now
    if base is None or not moved(one):
        return None
    if base.kernel != now.kernel:
        return Ends(base.kernel, now.kernel)
    arch = config.kernel(now.kernel).arch
    suffix = "" if arch == config.defaults.arch else f"-{ARCHITECTURES[arch].debian}"
    plain = [f"{version}{suffix}" for version in (base.version, now.version)]
    missing = [id for id in plain if id not in offered]
    good, bad = (with_profile(id, profile_of(now.kernel)) for id in plain)
    return Ends(good, bad, tuple(missing))

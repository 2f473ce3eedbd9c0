"""What a sweep has to run: the kernels that are new, or newer, since the last one.

A result of an earlier sweep holds while the kernel has the same digest, and the payload and its
settings have the same fingerprint.
"""

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bpfmatrix import __version__
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.host.checksum import key_of
from bpfmatrix.results.outcome import GuestRun, Outcome
from bpfmatrix.sweep.state import Part, Result, digest_of, fingerprint_of

__all__ = ["Standing", "Target", "fingerprint", "is_conclusive", "standing", "to_run"]

Results = Mapping[Part, Mapping[str, Result]]
# Settings that are no reason to run a kernel again: results show them, or the digest covers them.
_NO_SETTINGS = {"id", "root", "source", "exact", "expect"}


class Standing(enum.StrEnum):
    """How a kernel stands to the last sweep."""

    NEW = "new"
    """No earlier sweep has run it."""
    MOVED = "moved"
    """Its source has another build of it, mostly a newer release."""
    CHANGED = "changed"
    """The kernel is the same; the payload, its settings or bpfmatrix are not."""
    SAME = "same"


@dataclass(frozen=True)
class Target:
    """A kernel that a sweep may run."""

    id: str
    version: str
    """Its upstream release, such as `6.1.192`."""
    digest: str
    fingerprints: Mapping[Part, str]
    """That of each part that the project has for its architecture."""

    def holds(self, part: Part, result: Result | None) -> bool:
        """Whether a result is that of this kernel, with the present payload."""
        return (
            result is not None
            and part in self.fingerprints
            and digest_of(result) == self.digest
            and fingerprint_of(result) == self.fingerprints[part]
        )


def fingerprint(kernel: KernelConfig, payload_id: str, settings: object) -> str:
    """Return the fingerprint of what runs on a kernel: 16 hexadecimal digits.

    `payload_id` is the checksum of the payload, and `settings` what decides how it runs, as JSON
    can represent it.
    """
    machine = kernel.model_dump(mode="json", exclude=_NO_SETTINGS)
    return key_of([payload_id, settings, machine, __version__])[:16]


def standing(target: Target, last: Results) -> Standing:
    """Return how a kernel stands to the last results."""
    before = {part: last[part].get(target.id) for part in target.fingerprints}
    known = [result for result in before.values() if result is not None]
    if not known:
        return Standing.NEW
    if any(digest_of(result) != target.digest for result in known):
        return Standing.MOVED
    if not all(target.holds(part, result) for part, result in before.items()):
        return Standing.CHANGED
    return Standing.SAME


def to_run(
    targets: Iterable[Target], part: Part, last: Results, finished: Results, everything: bool
) -> list[str]:
    """Return the ids of the kernels on which a part is to be run.

    These are the ones whose last result does not hold, or all if `everything`, but for those that
    an interrupted sweep has `finished`.
    """
    return [
        target.id
        for target in targets
        if part in target.fingerprints
        and not target.holds(part, finished[part].get(target.id))
        and (everything or not target.holds(part, last[part].get(target.id)))
    ]


def is_conclusive(run: GuestRun) -> bool:
    """Whether a run says something about its kernel, so that it need not be repeated."""
    return run.outcome not in (Outcome.ERROR, Outcome.LOST, Outcome.INTERRUPTED)

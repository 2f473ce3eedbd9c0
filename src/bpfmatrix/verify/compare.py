"""Comparisons of verifications: with saved ones, and between kernels."""

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from bpfmatrix.results.kernel_label import label_of
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import (
    Code,
    ProgramKey,
    ProgramResult,
    Verification,
    labels,
)

__all__ = ["Change", "Cost", "against", "costs"]

# All in instructions that the verifier processes. Smaller growth is not reported.
_LEAST_GROWTH = 50
# Between two kernels, a program is reported if its cost differs by this factor, and is not small.
_FACTOR = 2.0
_LEAST_COST = 100

ChangeKind = Literal["fails", "loads", "cost", "other"]
"""`fails` and `loads`: what it did not do before; `cost`: it loads as before, at another cost."""


# The text, whether it is a regression, and the kind of a Change.
_Change = tuple[str, bool, ChangeKind]


@dataclass(frozen=True)
class Change:
    """A difference from the base: of one program on one kernel, or of a whole kernel."""

    kernel: str
    object: str
    """Empty for a whole kernel."""
    program: str
    """`(kernel)` for a whole kernel. The loader and the preset follow if there are several."""
    text: str
    """What has changed, for people."""
    regression: bool = False
    """Whether it fails the comparison."""
    kind: ChangeKind = "other"


@dataclass(frozen=True)
class Cost:
    """A program that costs the verifier of one kernel much more than that of another.

    A cost is the number of instructions that the verifier processes.
    """

    object: str
    program: str
    """The loader and the preset follow if there are several."""
    dear: str
    """The kernel with the highest cost."""
    most: int
    """The highest cost."""
    cheap: str
    """The kernel with the lowest cost."""
    least: int
    """The lowest cost."""

    @property
    def factor(self) -> float:
        """The highest cost divided by the lowest."""
        return self.most / self.least


def against(
    base: Iterable[Verification], now: Sequence[Verification], threshold: float
) -> list[Change]:
    """Return the changes since the base, kernel by kernel.

    `threshold` is the growth of a program's cost that is not a change: 0.1 for 10%. Kernels are
    matched by their ids, programs by object, name, loader and preset. A base without loaders, of an
    older version, is taken for one of any loader.
    """
    before = {one.kernel: one for one in base}
    found: list[Change] = []
    for one in now:
        known = before.get(one.kernel)
        if known is None:
            found.append(Change(one.kernel, "", "(kernel)", "not in the base"))
        else:
            changes = list(_changes(known, one, threshold))
            found += [*_releases(known, one), *changes] if changes else []
    ran = {one.kernel for one in now}
    found += [Change(id, "", "(kernel)", "not run now") for id in before if id not in ran]
    return found


def _releases(base: Verification, now: Verification) -> Iterator[Change]:
    """Say that a kernel is of another release than before: it may be the cause of its changes."""
    if base.version and now.version and base.version != now.version:
        yield Change(now.kernel, "", "(kernel)", f"{base.version} before, {now.version} now")


def _changes(base: Verification, now: Verification, threshold: float) -> Iterator[Change]:
    # Nothing is known of what was not run, such as after Ctrl-C.
    before = {p.key: p for p in base.programs if p.code is not Code.NOT_RUN}
    after = {p.key: p for p in now.programs if p.code is not Code.NOT_RUN}
    if not after and before:
        # The kernel could not be booted, or no program was loaded.
        yield Change(now.kernel, "", "(kernel)", f"{now.outcome}: {now.reason}", True, "fails")
        return
    named = labels((*before, *after))
    moved = _moved(before.keys(), after.keys())
    for key, result in after.items():
        known = before.get(moved.get(key, key)) or before.get(key._replace(loader=""))
        change = _new(result) if known is None else _changed(known, result, threshold)
        if change:
            yield Change(now.kernel, key.object, _name(key, named), *change)
    # A base without loaders is one of any loader.
    there = {p.key for p in now.programs} | {*moved.values()}
    seen = there | {key._replace(loader="") for key in there}
    for key in before.keys() - seen:
        yield Change(now.kernel, key.object, _name(key, named), "no longer there")


def _moved(before: Set[ProgramKey], after: Set[ProgramKey]) -> dict[ProgramKey, ProgramKey]:
    """Return what programs were before whose object has another path now.

    That is known only of a name that one program lost, and one other program has.
    """
    gone, come = (_by_name(keys) for keys in (before - after, after - before))
    return {
        new[0]: old[0]
        for name, new in come.items()
        if len(new) == 1 and len(old := gone.get(name, [])) == 1
    }


def _by_name(keys: Iterable[ProgramKey]) -> dict[ProgramKey, list[ProgramKey]]:
    found: dict[ProgramKey, list[ProgramKey]] = {}
    for key in keys:
        found.setdefault(key._replace(object=""), []).append(key)
    return found


def _name(key: ProgramKey, named: dict[ProgramKey, str]) -> str:
    return f"{key.program} ({named[key]})" if named.get(key) else key.program


def _new(result: ProgramResult) -> _Change:
    if _loads(result):
        return "new, loads", False, "other"
    if _is_skipped(result):
        return f"new, skipped: {result.reason}", False, "other"
    return f"new, does not load: {result.reason}", not result.expected, "fails"


def _changed(before: ProgramResult, after: ProgramResult, threshold: float) -> _Change | None:
    if _loads(before) and _loads(after):
        return _grown(before, after, threshold)
    why = after.reason or str(after.outcome)
    match before.outcome, after.outcome:
        case _, Outcome.PASSED:
            return "did not load, loads now", False, "loads"
        case Outcome.PASSED, Outcome.SKIPPED:
            return f"loaded, is skipped now: {why}", False, "other"
        case Outcome.PASSED | Outcome.SKIPPED as was, _ if not _is_skipped(after):
            word = "loaded" if was is Outcome.PASSED else "was skipped"
            return f"{word}, fails now: {why}", not after.expected, "fails"
        case _ if before.code != after.code:
            text = f"{after.code or after.outcome} now, {before.code or before.outcome} before"
            # Worse than not to load: other programs could no longer be tried.
            kills = after.code is Code.KERNEL_DIED
            return text, kills and not after.expected, "fails" if kills else "other"
    return None


def _grown(before: ProgramResult, after: ProgramResult, threshold: float) -> _Change | None:
    was = before.statistics.instructions_processed
    now = after.statistics.instructions_processed
    if was is None or now is None or abs(now - was) <= max(was * threshold, _LEAST_GROWTH):
        return None
    share = f" ({(now - was) / was:+.0%})" if was else ""
    return f"{was:,} instructions processed before, {now:,} now{share}", now > was, "cost"


def _loads(result: ProgramResult) -> bool:
    return result.outcome is Outcome.PASSED


def _is_skipped(result: ProgramResult) -> bool:
    return result.outcome is Outcome.SKIPPED


def costs(verifications: Sequence[Verification]) -> list[Cost]:
    """Return the programs that cost at least twice as much on one kernel as on another.

    The program with the largest factor is first.
    """
    by_program: dict[ProgramKey, list[tuple[int, str]]] = {}
    ids = [one.kernel for one in verifications]
    for one in verifications:
        for result in one.programs:
            count = result.statistics.instructions_processed
            if count and _loads(result):
                known = by_program.setdefault(result.key, [])
                known.append((count, label_of(one, ids)))
    found, named = [], labels(by_program)
    for key, known in by_program.items():
        (most, dear), (least, cheap) = max(known), min(known)
        if most >= _FACTOR * least and most >= _LEAST_COST:
            found.append(Cost(key.object, _name(key, named), dear, most, cheap, least))
    return sorted(found, key=lambda cost: -cost.factor)

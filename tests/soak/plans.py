"""The plan of one run of the soak: everything that happens in it, from its seed alone.

A plan says which kernels run which programs, what is done to QEMU or to bpfmatrix meanwhile, and
which verdict is right. `disagreements` compares that with a result file of bpfmatrix.
"""

import random
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tests.soak.programs import (
    ENDINGS,
    KINDS,
    LIGHT_KINDS,
    PATTERNS,
    Program,
    Result,
    ordinary,
)

__all__ = [
    "ARM",
    "KERNELS",
    "Plan",
    "Strike",
    "all_categories",
    "categories",
    "disagreements",
    "plan_of",
]

ARM = "6.1-arm64"
KERNELS: Mapping[str, float] = {"5.10": 20, "6.1": 45, "6.12": 18, "7.3": 15, ARM: 2}
"""The kernels, by their ids in this repository's kernels.yaml, and how often each is chosen."""

# Limits of a test in seconds. A program that hangs needs a short one. All other programs in such a
# run are over in a moment.
_HANG_SECONDS = 8.0
_SILENT_SECONDS = 2.0
_RUN_SECONDS = 12.0


@dataclass(frozen=True)
class Strike:
    """What is done to a process of the run from outside."""

    target: Literal["qemu", "tool"]
    moment: Literal["waiting", "boot", "early"]
    """`waiting`: the last program says that it waits. `boot`: the kernel's console has begun.
    `early`: at once, wherever bpfmatrix then is."""
    delay_seconds: float
    """How much later than that."""
    signal: signal.Signals
    to_group: bool
    """Whether the signal is sent to the whole process group, as a terminal does."""


@dataclass(frozen=True)
class Plan:
    """One run of the soak."""

    seed: int
    kernels: tuple[str, ...]
    front: Literal["invoke", "nox"]
    cold: bool
    share: bool
    """Whether a folder of the host is shared with the guest, by a server of its own."""
    ending: str
    programs: tuple[Program, ...]
    strike: Strike | None = None
    test_limit_seconds: float | None = None
    run_limit_seconds: float | None = None

    @property
    def results(self) -> tuple[tuple[str, Result], ...]:
        """The binary and the result of each test that must be in the result file."""
        return tuple((p.name, result) for p in self.begun for result in p.results)

    @property
    def begun(self) -> tuple[Program, ...]:
        """The programs that begin: nothing runs after the one that ends the machine."""
        last = next((n for n, p in enumerate(self.programs) if self._ends_machine(p)), None)
        return self.programs if last is None else self.programs[: last + 1]

    def _ends_machine(self, program: Program) -> bool:
        return program.kind == self.ending and ENDINGS[self.ending].ends_machine

    @property
    def outcomes(self) -> frozenset[str]:
        """The outcomes of the run that are right."""
        if given := ENDINGS[self.ending].outcomes:
            return given
        found = {outcome for _, result in self.results for outcome in result.outcomes}
        for outcome in ("timeout", "failed"):
            if outcome in found:
                return frozenset({outcome})
        return frozenset({"skipped"} if found == {"skipped"} else {"passed"})

    @property
    def results_decide(self) -> bool:
        """Whether the tests that ran before a strike are known, and must be in the result file."""
        return self.strike is None or self.strike.moment == "waiting"

    @property
    def may_have_no_result(self) -> bool:
        """Whether it is right that there is no result file: bpfmatrix was killed."""
        strike = self.strike
        return (
            strike is not None
            and strike.target == "tool"
            and not (strike.signal is signal.SIGINT and strike.moment == "waiting")
        )

    def right_status(self, status: int) -> bool:
        """Tell whether the command's exit status is right; a negative one is that of a signal."""
        if self.ending == "tool":
            return status != 0
        return status == (0 if self.outcomes == {"passed"} else 1)

    def __str__(self) -> str:
        words = [*self.kernels, self.front, "cold" if self.cold else "warm", self.ending]
        if self.strike:
            words.append(f"{self.strike.signal.name} {self.strike.moment}")
        return f"{', '.join(words)}; programs: {', '.join(p.kind for p in self.programs)}"


def plan_of(seed: int) -> Plan:
    """Return the plan that a seed means."""
    rng = random.Random(seed)
    [ending] = rng.choices(tuple(ENDINGS), weights=[each.weight for each in ENDINGS.values()])
    kernels = _kernels(rng, ending)
    quick = ending in ("hang", "silent", "run limit") or ARM in kernels
    kinds = LIGHT_KINDS if quick else KINDS
    count = 0 if ending == "silent" else rng.choice((1, 1, 2, 3, 4))
    made = [ordinary(f"p{n}", rng, kinds, light=quick) for n in range(count)]
    made = _without_second_pressure(made)
    if ending != "none":
        program = ENDINGS[ending].make("ending", rng)
        at = rng.randrange(len(made) + 1) if ending in ("hang", "escape") else len(made)
        if ending == "escape":  # something must run after it, in whose log it could write
            made.append(ordinary("follower", rng, ("exit",), light=True))
        made.insert(at, program)
        if ENDINGS[ending].ends_machine and ending not in ("silent", "forge"):
            made += [ordinary("never", rng, ("exit",), light=True)] * (rng.random() < 0.3)
    strike = _strike(rng, ending)
    return Plan(
        seed=seed,
        kernels=kernels,
        front="nox" if rng.random() < 0.2 else "invoke",
        cold=strike.moment == "boot" if strike and strike.target == "qemu" else _cold(rng, ending),
        share=rng.random() < 0.08 and ARM not in kernels,
        ending=ending,
        programs=tuple(made),
        strike=strike,
        test_limit_seconds={"hang": _HANG_SECONDS, "silent": _SILENT_SECONDS}.get(ending),
        run_limit_seconds=_RUN_SECONDS if ending == "run limit" else None,
    )


def _kernels(rng: random.Random, ending: str) -> tuple[str, ...]:
    ids = tuple(KERNELS)
    [first] = rng.choices(ids, weights=tuple(KERNELS.values()))
    if first == ARM and ending not in ("none", "panic", "reset", "qemu"):
        first = "6.1"
    if ending in ("none", "panic") and first != ARM and rng.random() < 0.08:
        return first, rng.choice([id for id in ids if id not in (first, ARM)])
    return (first,)


def _cold(rng: random.Random, ending: str) -> bool:
    return rng.random() < 0.05 and ending != "run limit"


def _without_second_pressure(programs: Sequence[Program]) -> list[Program]:
    """Leave out all programs but one that fill memory or a disk: each takes seconds."""
    heavy = [program for program in programs if program.kind in ("disk", "memory")]
    return [program for program in programs if program not in heavy[1:]]


def _strike(rng: random.Random, ending: str) -> Strike | None:
    if ending == "qemu":
        moment: Literal["waiting", "boot"] = "boot" if rng.random() < 0.15 else "waiting"
        delay = rng.uniform(0, 0.5)
        return Strike("qemu", moment, delay, signal.SIGKILL, to_group=False)
    if ending == "tool":
        chosen = rng.choice((signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
        if rng.random() < 0.4:
            return Strike("tool", "early", rng.uniform(0, 2.5), chosen, rng.random() < 0.5)
        return Strike("tool", "waiting", rng.uniform(0, 0.3), chosen, rng.random() < 0.5)
    return None


def categories(plan: Plan) -> set[str]:
    """Return the categories of a plan, by which runs are counted and left out."""
    found = {*plan.kernels, plan.front, "cold" if plan.cold else "warm"}
    found |= {program.kind for program in plan.programs} - {"exit"}
    found |= {f"prints {p.printed.pattern}" for p in plan.programs if p.printed}
    found |= {"share"} if plan.share else set()
    found |= {"side by side"} if len(plan.kernels) > 1 else set()
    if any(program.padding_bytes > 1 << 20 for program in plan.programs):
        found.add("large payload")
    if plan.strike:
        found.add(f"{plan.strike.target} {plan.strike.signal.name} {plan.strike.moment}")
    return found


def all_categories() -> set[str]:
    """Return the categories that a session can leave out."""
    named = {*KERNELS, "invoke", "nox", "cold", "warm", "share", "side by side", "large payload"}
    return named | {*ENDINGS, *KINDS, *(f"prints {each}" for each in PATTERNS)} - {"none", "exit"}


def disagreements(plan: Plan, kernel: str, found: Mapping[str, Any] | None) -> Iterable[str]:
    """Yield what is wrong in a result file of this plan. It is None if there is no file."""
    if found is None:
        if not plan.may_have_no_result:
            yield f"{kernel}: no result file"
        return
    outcome = found["outcome"]
    if outcome not in plan.outcomes:
        right = " or ".join(sorted(plan.outcomes))
        yield f"{kernel}: the run is {outcome} ({found['reason']}), not {right}"
    if (outcome == "passed") == bool(found["reason"]):
        yield f"{kernel}: outcome {outcome} with the reason {found['reason']!r}"
    tests = {(test["binary"], test["name"]): test for test in found["tests"]}
    if len(tests) != len(found["tests"]):
        yield f"{kernel}: a test has two results"
    if not plan.results_decide or plan.ending == "run limit":
        if any(binary == "ending" and t["outcome"] == "passed" for (binary, _), t in tests.items()):
            yield f"{kernel}: the program that waits for ever passed"
        return
    right_names = {(binary, result.name) for binary, result in plan.results}
    for binary, name in tests.keys() - right_names:
        yield f"{kernel}: {binary}: {name} has a result, and should have none"
    for binary, result in plan.results:
        if (test := tests.get((binary, result.name))) is None:
            yield f"{kernel}: {binary}: {result.name} has no result"
            continue
        if test["outcome"] not in result.outcomes:
            right = " or ".join(sorted(result.outcomes))
            yield (
                f"{kernel}: {binary}: {result.name} is {test['outcome']} ({test['reason']}), "
                f"not {right}"
            )
        elif not re.search(result.reason, test["reason"]):
            yield f"{kernel}: {binary}: {result.name} has the reason {test['reason']!r}"

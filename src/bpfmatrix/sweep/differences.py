"""The differences between the results of a sweep and those of the one before.

A kernel is compared with its own last result, whichever release that was of: `6.1` of 6.1.192 with
`6.1` of 6.1.190. The first result of a series is compared with the nearest older kernel, if there
is one. Without anything to compare with, each failure that kernels.yaml does not expect is new.
"""

import dataclasses
import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from bpfmatrix.config.kernel_ids import profile_of
from bpfmatrix.host.text import counted
from bpfmatrix.host.versions import numbers
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import FINE, KernelWarning, Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification, labels
from bpfmatrix.sweep.state import Part, Result
from bpfmatrix.verify import compare

__all__ = ["Compared", "Difference", "Effect", "base_of", "compared"]

# The growth of a program's cost that is no difference, as that of `verify --against`.
_THRESHOLD = 0.1
# A machine that ended like this has not run all tests.
_CUT_SHORT = (Outcome.PANIC, Outcome.LOST, Outcome.TIMEOUT, Outcome.ERROR, Outcome.INTERRUPTED)
# How a test ends that ends the kernel.
_DEATHS = (Outcome.PANIC, Outcome.LOST)
# What differs between two warnings of one kind: lines of source, addresses, processes.
_NUMBER = re.compile(r"\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b")
_KINDS = {"fails": "regression", "loads": "fix", "cost": "other", "other": "other"}


class Effect(enum.StrEnum):
    """What a difference means."""

    REGRESSION = "regression"
    """It passed, or was not there, and fails now; or it failed, and ends the kernel now."""
    FIX = "fix"
    """It failed, and passes now."""
    OTHER = "other"


@dataclass(frozen=True)
class Difference:
    """One difference: of a test, of a program, or of a whole kernel."""

    effect: Effect
    text: str
    """What has changed, with the reason of a failure, for people."""
    group: str = ""
    """The executable of the test, or the object of the program; empty for a whole kernel."""
    name: str = ""
    """The test or the program; empty for a whole kernel."""
    result: TestResult | ProgramResult | None = None
    """The result now."""
    is_warning: bool = False
    """Whether it is about warnings of the kernel."""


@dataclass(frozen=True)
class Compared:
    """One part of one kernel, beside what it is compared with."""

    part: Part
    now: Result
    base: Result | None
    differences: tuple[Difference, ...]

    def having(self, effect: Effect) -> list[Difference]:
        """Return the differences with this effect."""
        return [one for one in self.differences if one.effect is effect]


def base_of(now: Result, last: Mapping[str, Result]) -> Result | None:
    """Return what a result is compared with, of the last results of all kernels.

    It is that of the same kernel, or else of the next older release with the same architecture and
    profile.
    """
    if now.kernel in last:
        return last[now.kernel]
    older = [
        one
        for one in last.values()
        if one.arch == now.arch
        and profile_of(one.kernel) == profile_of(now.kernel)
        and () < numbers(one.version) < numbers(now.version)
    ]
    return max(older, key=lambda one: numbers(one.version), default=None)


def compared(
    part: Part, now: Result, last: Mapping[str, Result], warnings_fail: bool = False
) -> Compared:
    """Compare a result with the last one.

    `warnings_fail` is whether the kernel's warnings make a run fail, by kernels.yaml.
    """
    base = base_of(now, last)
    if isinstance(now, KernelRun):
        found = _of_tests(base if isinstance(base, KernelRun) else None, now)
    else:
        found = _of_programs(base if isinstance(base, Verification) else None, now)
    differences = list(found)
    warned = _of_warnings(base, now, warnings_fail)
    differences += _of_kernel(base, now, [*differences, *warned])
    return Compared(part, now, base, (*differences, *warned))


def _of_kernel(
    base: Result | None, now: Result, others: Iterable[Difference]
) -> Iterator[Difference]:
    """Give the difference of the whole runs, unless one of the `others` explains it.

    For example, the kernel did not boot, or it panicked.
    """
    before = base.outcome if base else Outcome.PASSED
    if now.outcome in FINE:
        return
    regressions = [one for one in others if one.effect is Effect.REGRESSION]
    if now.outcome is Outcome.FAILED:
        is_new = before in FINE and not _failing(now)
    elif now.outcome is Outcome.TIMEOUT:  # of the whole run, or of a test
        is_new = before in FINE or _runs_less(base, now)
    else:
        is_new = before not in _CUT_SHORT or (now.outcome in _DEATHS and before not in _DEATHS)
    if is_new and not any(_explains(one, now) for one in regressions):
        yield Difference(Effect.REGRESSION, f"{now.outcome}: {now.reason}")
    elif before not in FINE and before is not now.outcome and not _failing(now) and not regressions:
        yield Difference(Effect.OTHER, f"{before} before, {now.outcome} now: {now.reason}")


def _explains(regression: Difference, now: Result) -> bool:
    """Whether a regression says why the whole run ended as it did."""
    if regression.is_warning:
        return now.outcome is Outcome.FAILED
    return regression.result is None or regression.result.outcome is now.outcome


def _runs_less(base: Result | None, now: Result) -> bool:
    """Whether something passed before that was not run now, or whether nothing was run any more."""
    ran, ran_before = _ran(now), _ran(base) if base else {}
    missing = ran_before.keys() - ran.keys()
    return (not ran and bool(ran_before)) or any(_is_fine(ran_before[key]) for key in missing)


def _ran(result: Result) -> dict[tuple[str, ...], TestResult | ProgramResult]:
    """Return the results of the tests or the programs that were run."""
    if isinstance(result, KernelRun):
        return {(one.binary, one.name): one for one in result.tests}
    return {one.key: one for one in result.programs if one.code is not Code.NOT_RUN}


def _of_warnings(base: Result | None, now: Result, fail: bool) -> list[Difference]:
    """Return the difference that the kernel's warnings make, if any is new."""
    before = {_kind(one) for one in base.warnings} if base else set()
    new = [one for one in now.warnings if not one.expected and _kind(one) not in before]
    if not new or (base is None and not fail):
        return []
    effect = Effect.REGRESSION if fail else Effect.OTHER
    text = f"{counted(len(new), 'new kernel warning')}, the first: {new[0].summary}"
    return [Difference(effect, text, is_warning=True)]


def _kind(warning: KernelWarning) -> str:
    return _NUMBER.sub("#", warning.title)


def _failing(now: Result) -> bool:
    results = now.tests if isinstance(now, KernelRun) else now.programs
    return any(not _is_fine(one) for one in results)


def _of_tests(base: KernelRun | None, now: KernelRun) -> Iterator[Difference]:
    before = _by_name(base.tests) if base else {}
    after = _by_name(now.tests)
    for (binary, name), test in after.items():
        known = before.get((binary, name))
        change = _new(test, is_first=base is None) if known is None else _changed(known, test)
        if change:
            yield Difference(*change, binary, name, test)
    if now.outcome not in _CUT_SHORT:
        for binary, name in before.keys() - after.keys():
            yield Difference(Effect.OTHER, "no longer there", binary, name)


def _by_name(tests: Iterable[TestResult]) -> dict[tuple[str, str], TestResult]:
    """Return the tests by executable and name; of several with one name, the first that failed."""
    found: dict[tuple[str, str], TestResult] = {}
    for test in tests:
        known = found.get((test.binary, test.name))
        if known is None or (known.outcome in FINE and test.outcome not in FINE):
            found[test.binary, test.name] = test
    return found


def _new(test: TestResult, is_first: bool) -> tuple[Effect, str] | None:
    if not _is_fine(test):
        word = "" if is_first else "new, "
        return Effect.REGRESSION, f"{word}{test.outcome}: {test.reason}"
    return None if is_first else (Effect.OTHER, f"new, {test.outcome}")


def _changed(before: TestResult, after: TestResult) -> tuple[Effect, str] | None:
    if _is_fine(before) and not _is_fine(after):
        return Effect.REGRESSION, f"{_was(before)} before, {after.outcome} now: {after.reason}"
    if before.outcome not in FINE and after.outcome is Outcome.PASSED:
        expected = f", but is expected to fail: {after.expected}" if after.expected else ""
        return Effect.FIX, f"{before.outcome} before, passes now{expected}"
    if before.outcome is not after.outcome:
        why = f": {after.reason}" if after.reason else ""
        kills = after.outcome in _DEATHS and before.outcome not in _DEATHS and not after.expected
        effect = Effect.REGRESSION if kills else Effect.OTHER
        return effect, f"{before.outcome} before, {after.outcome} now{why}"
    return None


def _is_fine(result: TestResult | ProgramResult) -> bool:
    return result.outcome in FINE or bool(result.expected)


def _was(before: TestResult | ProgramResult) -> str:
    words = {Outcome.PASSED: "passed", Outcome.SKIPPED: "was skipped"}
    return words.get(before.outcome, f"{before.outcome} as expected")


def _of_programs(base: Verification | None, now: Verification) -> Iterator[Difference]:
    named = labels(one.key for one in now.programs)
    titles = {
        (key.object, f"{key.program} ({label})" if label else key.program): key
        for key, label in named.items()
    }
    results = {one.key: one for one in now.programs}
    if base is None:
        for (object, name), key in titles.items():
            result = results[key]
            if not _is_fine(result) and result.code is not Code.NOT_RUN:
                text = f"does not load: {result.reason}"
                yield Difference(Effect.REGRESSION, text, object, name, result)
        return
    # Without a change of the program's code, `compare` has nothing to say of these.
    before = {one.key: one for one in base.programs}
    lapsed = {
        key
        for key, one in results.items()
        if not _is_fine(one) and key in before and before[key].outcome not in FINE
        if before[key].expected
    }
    # Of another release, as a sweep's results mostly are, it says so itself.
    same = dataclasses.replace(base, kernel=now.kernel, version=now.version)
    for change in compare.against([same], [now], _THRESHOLD):
        known = titles.get((change.object, change.program))
        if known in lapsed:
            continue
        effect = Effect(_KINDS[change.kind])
        if effect is Effect.REGRESSION and not change.regression:  # as kernels.yaml expects
            effect = Effect.OTHER
        name = change.program if change.object else ""  # a whole kernel
        result_now = results[known] if known else None
        yield Difference(effect, change.text, change.object, name, result_now)
    for (object, name), key in titles.items():
        if key in lapsed:
            text = f"{_was(before[key])} before, fails now: {results[key].reason}"
            yield Difference(Effect.REGRESSION, text, object, name, results[key])

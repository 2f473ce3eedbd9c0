"""Programs that both `verify` and tests could not load: each is explained once, with the tests.

A failure is known by the kernel's id and the `failure` of its result: the object, the program, the
code and the reason.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bpfmatrix.report.next_commands import FailedTest
from bpfmatrix.results.kernel_run import KernelRun, Rejection, TestResult
from bpfmatrix.results.verification import ProgramResult, Verification

__all__ = [
    "NOTHING",
    "FailedTests",
    "FailureOn",
    "Told",
    "failed_tests",
    "failure_on",
    "listed",
    "test_of",
    "tests_named",
]

_SHOWN_TESTS = 2

FailureOn = tuple[str, ...]
"""A failure of a program on one kernel."""
FailedTests = Mapping[FailureOn, Sequence[FailedTest]]
"""The tests that failed for a program that did not load."""


@dataclass(frozen=True)
class Told:
    """What has been printed of programs that did not load."""

    explained: frozenset[FailureOn] = frozenset()
    """Those with a block of lines of their own."""
    annotated: frozenset[FailureOn] = frozenset()
    """Those that GitHub shows at a line of source."""


NOTHING = Told()


def failure_on(run: KernelRun | Verification, one: Rejection | ProgramResult) -> FailureOn:
    """Return the failure of a program on the kernel of a run."""
    return run.kernel, *one.failure


def failed_tests(
    runs: Iterable[KernelRun], of: Callable[[KernelRun, TestResult], FailedTest]
) -> FailedTests:
    """Return the tests that failed for programs, by the programs' failures.

    `of` returns what commands need of a test.
    """
    found: dict[FailureOn, list[FailedTest]] = {}
    for run in runs:
        for one in filter(run.is_reason, run.rejections):
            if test := test_of(run, one):
                found.setdefault(failure_on(run, one), []).append(of(run, test))
    return found


def test_of(run: KernelRun, one: Rejection) -> TestResult | None:
    """Return the failed test that printed a rejection; None if only the executable's log has it."""
    of_binary = (test for test in run.failures if test.binary == one.binary)
    return next((test for test in of_binary if test.name == one.test), None)


def tests_named(tests: Iterable[FailedTest]) -> str:
    """Return the names of tests, of many only the first ones: `TestA, TestB and 3 more`."""
    return listed(test.label for test in tests)


def listed(labels: Iterable[str]) -> str:
    """Return labels, each once, of many only the first ones."""
    names = list(dict.fromkeys(labels))
    more = len(names) - _SHOWN_TESTS
    return ", ".join(names[:_SHOWN_TESTS]) + (f" and {more} more" if more > 0 else "")

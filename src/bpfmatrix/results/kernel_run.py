"""What came of one run of the tests on one kernel.

The file `.bpfmatrix/results/<kernel>.json` is a `KernelRun` as it stands here; `schema` counts its
incompatible changes. It is described in `docs/results.md`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bpfmatrix.results.outcome import FINE, GuestRun, Outcome

__all__ = ["SCHEMA", "KernelRun", "TestResult", "exit_status", "verdict"]

SCHEMA = 1


@dataclass(frozen=True)
class TestResult:
    """One test: a Go test or subtest, or an executable that is a test by itself."""

    __test__ = False  # for pytest, to which the name says that it is one of its own

    binary: str
    """The executable that it belongs to."""
    name: str
    """`TestName/subtest`; the executable's name where that is the test."""
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    """Why it did not pass, in one line; empty if it passed."""
    output: str = ""
    """What it printed, cut to its first and last part where it is long."""
    expected: str = ""
    """The reason that kernels.yaml gives (`expect`) for its outcome; where it passed all the same,
    for the one that was expected."""


@dataclass(frozen=True)
class KernelRun(GuestRun):
    """All that is known of one run of the tests on one kernel."""

    tests: tuple[TestResult, ...] = ()
    console_bytes_before_tests: int = 0
    """How much of the console is older than the first test."""
    trace: tuple[str, ...] = ()
    """The call trace of a panic or an oops, the innermost function first; each with its file and
    line where a vmlinux of the kernel with DWARF is at hand."""
    logs: tuple[str, ...] = ()
    """The tests' whole outputs, paths relative to kernels.yaml."""
    cores: tuple[str, ...] = ()
    """Core files of processes that died by a signal, paths relative to kernels.yaml; the tests'
    executables are beside them."""
    cached: bool = False
    """Nothing was run: all that shaped an earlier run, which passed, is the same."""
    schema: int = SCHEMA

    def count(self, outcome: Outcome) -> int:
        """Return how many tests ended like this."""
        return sum(test.outcome is outcome for test in self.tests)

    @property
    def age(self) -> str:
        """How long ago it was, such as `3 min`."""
        seconds = (datetime.now(UTC) - datetime.fromisoformat(self.started_at)).total_seconds()
        for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
            if seconds >= size:
                return f"{seconds / size:.0f} {unit}"
        return f"{seconds:.0f} s"

    @property
    def failures(self) -> list[TestResult]:
        """The tests that neither passed nor were skipped, nor are expected to fail."""
        return [test for test in self.tests if test.outcome not in FINE and not test.expected]

    @property
    def expected_failures(self) -> list[TestResult]:
        """The tests that failed as kernels.yaml says."""
        return [test for test in self.tests if test.outcome not in FINE and test.expected]

    @property
    def unexpected_passes(self) -> list[TestResult]:
        """The tests that passed, although kernels.yaml expects something else."""
        return [test for test in self.tests if test.outcome is Outcome.PASSED and test.expected]


def verdict(tests: Iterable[TestResult]) -> tuple[Outcome, str]:
    """Return the outcome of a run whose machine did its job, and why it did not pass."""
    tests = list(tests)
    others = (outcome for outcome in Outcome if outcome not in FINE)
    for bad in dict.fromkeys((Outcome.TIMEOUT, Outcome.FAILED, *others)):
        found = [test for test in tests if test.outcome is bad and not test.expected]
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            return bad, f"{found[0].name}{more}: {found[0].reason}"
    if not tests:
        return Outcome.ERROR, "no test ran"
    if all(test.outcome is Outcome.SKIPPED and not test.expected for test in tests):
        return Outcome.SKIPPED, f"every test was skipped, the first one: {tests[0].reason}"
    return Outcome.PASSED, ""


def exit_status(runs: Iterable[KernelRun]) -> int:
    """Return 0 if every kernel passed, else 1; nothing run is not a pass either."""
    runs = list(runs)
    return 0 if runs and all(run.outcome is Outcome.PASSED for run in runs) else 1

"""The result of one run of the tests on one kernel.

The file `.bpfmatrix/results/<kernel>.json` has the fields of a `KernelRun` as its keys. Each
incompatible change increments `schema`. docs/results.md describes the file.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from bpfmatrix.results.names import Labels
from bpfmatrix.results.outcome import FINE, GuestRun, Outcome

__all__ = [
    "SCHEMA",
    "KernelRun",
    "Leftover",
    "Rejection",
    "TestResult",
    "exit_status",
    "verdict",
]

SCHEMA = 1


@dataclass(frozen=True)
class TestResult:
    """One test of an executable, or an executable that is a test by itself."""

    __test__ = False  # keeps pytest from collecting this class because of its name

    binary: str
    """The executable that the test belongs to: the import path of its Go package, or else the name
    of its file."""
    name: str
    """Such as `TestName/subtest`; the executable's name if the executable is the test."""
    outcome: Outcome
    seconds: float = 0.0
    reason: str = ""
    """Why the test did not pass, in one line; empty if it passed."""
    output: str = ""
    """The test's output; if it is long, only its beginning and its end."""
    expected: str = ""
    """The reason that `expect` in kernels.yaml, or the test's runner, gives for a failure or skip;
    empty if none was expected. A test that passed unexpectedly has it too."""


@dataclass(frozen=True)
class Leftover:
    """Something that an executable left behind in the guest, and that could not be removed."""

    binary: str
    """The executable."""
    what: str
    """What it is, such as `a kernel module was loaded: veth`."""


@dataclass(frozen=True)
class Rejection:
    """An eBPF program or map that a failed test could not load, and why."""

    binary: str
    """The executable of the test."""
    test: str
    """The name of the test; that of the executable if only its log has it, which does not say of
    which test it is: it may be of one that passed."""
    program: str
    """The name of the C function; empty if the test's output does not have it."""
    code: str
    """One of the codes of docs/reason-codes.md, such as `verifier-rejected`."""
    reason: str
    """Why the program did not load, in one line."""
    errno: str = ""
    """The name of the kernel's error, such as `EACCES`."""
    source: str = ""
    """The line of C, as `file:line`, a path relative to kernels.yaml; empty if it is not known."""
    explanation: str = ""
    """The last lines of source, the instruction, its registers, and the verifier's message: the
    form of `verifier_tail` in a verification."""
    object: str = ""
    """The object file with the program, a path relative to kernels.yaml; empty if it is unknown."""
    loader: str = ""
    """The library that loaded it: `libbpf`, `cilium-ebpf`, `aya` or `bcc`."""
    log: str = ""
    """The file with the complete verifier log, a path relative to kernels.yaml; empty if none."""
    note: str = ""
    """Where the explanation is from, if it is not from the test's own output, in one line."""

    @property
    def failure(self) -> tuple[str, ...]:
        """What did not load and why, equal to the `failure` of the program in a verification."""
        return self.object, self.program, self.code, self.reason

    @property
    def summary(self) -> str:
        """The line of C and the reason: `bpf/connect.bpf.c:58: R1 type=inv expected=ctx`."""
        return f"{self.source}: {self.reason}" if self.source else self.reason

    @property
    def title(self) -> str:
        """What did not load: `program on_connect`."""
        return f"program {self.program}" if self.program else "a program or a map"

    @property
    def text(self) -> str:
        """What is known of it, in lines: the line of C and the reason first."""
        head = f"{self.summary} ({self.title}, {self.code})"
        places = [("object", self.object), ("verifier log", self.log), ("note", self.note)]
        facts = [f"{name}: {value}" for name, value in places if value]
        return "\n".join(filter(None, [head, self.explanation, *facts]))


@dataclass(frozen=True)
class KernelRun(GuestRun):
    """The result of one run of the tests on one kernel."""

    tests: tuple[TestResult, ...] = ()
    console_bytes_before_tests: int = 0
    """How many bytes the kernel's console had when the first test started."""
    trace: tuple[str, ...] = ()
    """The call trace of a panic or an oops, the innermost function first. Functions have their
    files and lines if the kernel's vmlinux with DWARF is available."""
    leftovers: tuple[Leftover, ...] = ()
    """What executables left behind for those that ran after them in the same guest."""
    logs: tuple[str, ...] = ()
    """The files with the complete output of the tests, as paths relative to kernels.yaml."""
    cores: tuple[str, ...] = ()
    """The core files of processes that a signal killed, as paths relative to kernels.yaml. The
    executables of the tests are in the same folder."""
    hints: tuple[str, ...] = ()
    """What may be behind failures, each in one line. A hint changes no verdict."""
    rejections: tuple[Rejection, ...] = ()
    """The programs that failed tests could not load, and why."""
    options: tuple[str, ...] = ()
    """The options of the command line that a test needs again, such as `--rootfs host`, as they are
    typed in the folder of kernels.yaml."""
    schema: int = SCHEMA

    def count(self, outcome: Outcome) -> int:
        """Return the number of tests with this outcome."""
        return sum(test.outcome is outcome for test in self.tests)

    def rejections_of(self, test: TestResult) -> list[Rejection]:
        """Return the rejections that a test printed, and that may be why it failed.

        Of a test that did not just fail, but had a timeout for example, there are none.
        """
        if test.outcome is not Outcome.FAILED or self.is_of_several(test):
            return []
        return [
            one for one in self.rejections if (one.binary, one.test) == (test.binary, test.name)
        ]

    def is_of_several(self, test: TestResult) -> bool:
        """Whether it is an executable with tests, whose output is that of its tests, too."""
        return test.name == test.binary and any(
            one.binary == test.binary and one.name != test.binary for one in self.tests
        )

    def is_reason(self, rejection: Rejection) -> bool:
        """Whether a rejection may be why a test failed; else it is only in an output, too."""
        return any(rejection in self.rejections_of(test) for test in self.failures)

    def log_of(self, executable: str) -> str:
        """Return the log of an executable, whose path ends in its name; empty if there is none."""
        found = [log for log in self.logs if log.endswith(f"/{executable}.log")]
        # The longer path is that of an executable whose name ends alike.
        return min(found, key=len, default="")

    def without_files(self) -> Self:
        """Return the result without the files that the run wrote, as when they are gone."""
        return dataclasses.replace(self, console="", logs=(), cores=(), dumps=())

    @property
    def failures(self) -> list[TestResult]:
        """The tests that failed, and that kernels.yaml does not expect to fail."""
        return [test for test in self.tests if test.outcome not in FINE and not test.expected]

    @property
    def expected_failures(self) -> list[TestResult]:
        """The tests that failed, as kernels.yaml expects."""
        return [test for test in self.tests if test.outcome not in FINE and test.expected]

    @property
    def unexpected_passes(self) -> list[TestResult]:
        """The tests that passed, although kernels.yaml expects something else."""
        return [test for test in self.tests if test.outcome is Outcome.PASSED and test.expected]


def verdict(tests: Iterable[TestResult]) -> tuple[Outcome, str]:
    """Return the outcome of a run by its tests, and why it did not pass.

    Use this for a run in which the machine itself did not fail.
    """
    tests = list(tests)
    others = (outcome for outcome in Outcome if outcome not in FINE)
    for bad in dict.fromkeys((Outcome.TIMEOUT, Outcome.FAILED, *others)):
        found = [test for test in tests if test.outcome is bad and not test.expected]
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            return bad, f"{Labels.of_results(tests).of(found[0])}{more}: {found[0].reason}"
    if not tests:
        return Outcome.ERROR, "no test ran"
    if all(test.outcome is Outcome.SKIPPED and not test.expected for test in tests):
        return Outcome.SKIPPED, f"every test was skipped, the first one: {tests[0].reason}"
    return Outcome.PASSED, ""


def exit_status(runs: Iterable[KernelRun]) -> int:
    """Return 0 if there is a run and every run passed, else 1."""
    runs = list(runs)
    return 0 if runs and all(run.outcome is Outcome.PASSED for run in runs) else 1

"""Results and kernels of sweeps, as the tests of decisions need them."""

from bpfmatrix.results.kernel_run import KernelRun, TestResult, verdict
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Statistics, Verification
from bpfmatrix.results.verification import verdict as verdict_of_programs
from bpfmatrix.sweep.plan import Target
from bpfmatrix.sweep.state import Part


def of_test(name: str, outcome: Outcome = Outcome.PASSED, expected: str = "") -> TestResult:
    reason = "" if outcome is Outcome.PASSED else "why"
    return TestResult("m", name, outcome, reason=reason, expected=expected)


def program(
    name: str, outcome: Outcome = Outcome.PASSED, expected: str = "", insns: int = 1000
) -> ProgramResult:
    code = None if outcome is Outcome.PASSED else Code.VERIFIER_REJECTED
    reason = "" if outcome is Outcome.PASSED else "why"
    statistics = Statistics(instructions_processed=insns)
    return ProgramResult(
        "a.o", name, outcome, code=code, reason=reason, expected=expected, statistics=statistics
    )


def run(
    *tests: TestResult,
    kernel: str = "6.1",
    version: str = "6.1.192",
    digest: str = "sha256:b",
    arch: str = "x86_64",
) -> KernelRun:
    outcome, reason = verdict(tests)
    provenance = {"digest": digest, "swept": "f"}
    return KernelRun(
        kernel, outcome, reason, version=version, arch=arch, provenance=provenance, tests=tests
    )


def verification(
    *programs: ProgramResult, kernel: str = "6.1", version: str = "6.1.192"
) -> Verification:
    outcome, reason = verdict_of_programs(programs)
    provenance = {"digest": "sha256:b", "swept": "f"}
    return Verification(
        kernel,
        outcome,
        reason,
        version=version,
        arch="x86_64",
        provenance=provenance,
        programs=programs,
    )


def target(id: str = "6.1", digest: str = "sha256:b", fingerprint: str = "f") -> Target:
    return Target(id, "6.1.192", digest, {Part.TESTS: fingerprint})

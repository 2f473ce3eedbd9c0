"""The commands to type next: what they are, and that the tasks take them."""

import dataclasses
from pathlib import Path

import pytest

from bpfmatrix.report.failures import failures
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.report.page_commands import PageCommands
from bpfmatrix.results.kernel_run import KernelRun, Rejection, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification

KERNELS = ("5.10", "6.1", "6.12")


@pytest.fixture(autouse=True)
def with_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks.py").write_text("from bpfmatrix.tasks import namespace\n")
    monkeypatch.chdir(tmp_path)


def commands(*runs: KernelRun | Verification, declared: tuple[str, ...] = KERNELS) -> list[str]:
    matrix = Matrix.of(map(Result, runs))
    found = PageCommands(matrix, set(declared))
    return [words for one in failures(matrix) for words in found.of(one).values()]


def ran(kernel: str, *outcomes: Outcome, arch: str = "x86_64") -> KernelRun:
    tests = tuple(TestResult("m/a b", f"TestX/{n}", o) for n, o in enumerate(outcomes))
    others = (TestResult("m/c", "TestX", Outcome.PASSED),)
    outcome = Outcome.FAILED if Outcome.FAILED in outcomes else Outcome.PASSED
    return KernelRun(kernel, outcome, arch=arch, tests=tests + others)


def test_a_test_is_run_alone_debugged_and_bisected_with_its_package() -> None:
    passed, failed = Outcome.PASSED, Outcome.FAILED
    runs = (ran("5.10", failed), ran("6.1", failed, passed), ran("6.12", passed, passed))
    assert commands(*runs)[:3] == [
        "invoke run --kernel 5.10 --run 'a b:TestX'",
        "invoke debug --kernel 5.10 --run 'a b:TestX'",
        "invoke bisect --run 'a b:TestX' --good 6.12 --bad 5.10",
    ]


def test_a_test_that_had_the_host_as_its_root_has_it_again() -> None:
    run = dataclasses.replace(ran("5.10", Outcome.FAILED), rootfs="host")
    assert commands(run)[0] == "invoke run --kernel 5.10 --run 'a b:TestX' --rootfs host"


def test_a_test_has_the_options_that_its_run_had() -> None:
    words = ("--binary", "t/count.sh", "--user", "nobody")
    run = dataclasses.replace(ran("5.10", Outcome.FAILED), options=words)
    assert [one for one in commands(run) if " --binary t/count.sh --user nobody" not in one] == []
    host = dataclasses.replace(run, rootfs="host", options=("--rootfs", "host"))
    assert all(one.count("--rootfs host") == 1 for one in commands(host))


def test_a_rejection_is_debugged_where_the_verifier_rejects_the_program() -> None:
    rejection = Rejection("m/a b", "TestX/0", "on_exec", Code.VERIFIER_REJECTED, "R0 invalid")
    run = dataclasses.replace(ran("5.10", Outcome.FAILED), rejections=(rejection,))
    words = "invoke debug --kernel 5.10 --run 'a b:TestX' --break rejection"
    assert commands(run)[1] == words


def test_there_is_no_bisection_without_a_kernel_of_the_same_kind_that_passes() -> None:
    found = commands(ran("5.10", Outcome.FAILED), ran("6.1", Outcome.PASSED, arch="aarch64"))
    assert not [words for words in found if "bisect" in words]


def test_a_program_is_loaded_again_on_all_its_kernels_as_it_was() -> None:
    def on(kernel: str, outcome: Outcome) -> Verification:
        bad = outcome is not Outcome.PASSED
        result = ProgramResult(
            *("my objects/a.o", "on_exec", outcome, "aya", "small"),
            code=Code.VERIFIER_REJECTED if bad else None,
            log="a.log" if bad else "",
        )
        return Verification(kernel, outcome, programs=(result,))

    runs = (*(on(k, Outcome.FAILED) for k in KERNELS[:2]), on("6.12", Outcome.PASSED))
    assert commands(*runs) == [
        "invoke verify 'my objects/a.o' --filter on_exec --kernels 5.10,6.1 --loader aya "
        "--preset small",
        "invoke verify 'my objects/a.o' --annotate on_exec --kernel 5.10 --loader aya "
        "--preset small",
        "invoke debug --kernel 5.10 --object 'my objects/a.o' --program on_exec --loader aya "
        "--preset small --break rejection",
        "invoke bisect --program on_exec 'my objects/a.o' --good 6.12 --bad 5.10 --loader aya "
        "--preset small",
    ]


def test_a_kernel_that_did_not_boot_is_run_again() -> None:
    assert commands(KernelRun("6.1", Outcome.ERROR, "no network")) == [
        "invoke run --kernel 6.1 --cold"
    ]


def test_there_are_none_for_a_kernel_that_commands_do_not_know() -> None:
    assert commands(ran("5.10", Outcome.FAILED), declared=("6.1",)) == []

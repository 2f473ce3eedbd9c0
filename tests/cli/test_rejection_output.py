"""What a run prints of programs that its tests could not load."""

import dataclasses
import io
import re
from collections.abc import Sequence

import pytest

from bpfmatrix.cli import run as cli_run
from bpfmatrix.cli.rejection_output import alike
from bpfmatrix.cli.run_choice import TESTS, RunChoice
from bpfmatrix.cli.run_console import RunConsole
from bpfmatrix.config.project import Project
from bpfmatrix.report import junit, markdown
from bpfmatrix.report.again import Again
from bpfmatrix.report.front import front
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.report.origin import ReportOrigin
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, Rejection, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification, verdict
from bpfmatrix.suite.options import RunOptions
from tests.cli.test_suite_output import suite_of

REJECTION = Rejection(
    "m/probe",
    "TestConnect",
    "on_connect",
    "verifier-rejected",
    "R1 type=inv expected=ctx",
    "EACCES",
    "bpf/connect.bpf.c:58",
    "bpf/connect.bpf.c:58  bpf_probe_read_kernel(&a, 4, sk);\n  7: call\nR1 type=inv expected=ctx",
    "bpf/connect.o",
    "cilium-ebpf",
)
OUTPUT = "probe_test.go:13: loading objects: program on_connect: load program: permission denied"


def run(kernel: str, *rejections: Rejection) -> KernelRun:
    tests = [
        TestResult("m/probe", name, Outcome.FAILED if rejections else Outcome.PASSED, 0.1, OUTPUT)
        for name in ("TestConnect", "TestOther")
    ]
    outcome = Outcome.FAILED if rejections else Outcome.PASSED
    return KernelRun(
        kernel, outcome, OUTPUT if rejections else "", tests=tuple(tests), rejections=rejections
    )


def of_both(**changes: str) -> list[Rejection]:
    one = dataclasses.replace(REJECTION, **changes)
    return [one, dataclasses.replace(one, test="TestOther")]


def printed(project: Project, pipe: io.StringIO, runs: Sequence[KernelRun]) -> str:
    with RunConsole(project, [one.kernel for one in runs], TESTS) as whole:
        for one in runs:
            suite_of(whole).finished(one)
    whole.show(runs, (), 1.0)
    return pipe.getvalue()


def test_a_rejection_is_printed_once_for_all_kernels(
    library_project: Project, pipe: io.StringIO
) -> None:
    # Kernels since 5.18 say "scalar" where older ones say "inv".
    newer = {"reason": "R1 type=scalar expected=ctx", "log": ".bpfmatrix/6.1.log"}
    runs = [run("5.10", *of_both()), run("6.1", *of_both(**newer)), run("6.12")]
    text = printed(library_project, pipe, runs)
    assert text.count("bpf/connect.bpf.c:58") == 1
    assert OUTPUT not in text.split("side by side")[1]
    after = text[text.index("5.10, 6.1  TestConnect, TestOther: load program on_connect: ") :]
    assert [line.split("  ")[1] for line in after.splitlines() if line[2:3].isalpha()] == [
        "code",
        "full verifier log",
        "run it alone",
        "where it stops",
        "every program",
        "since when",
    ]
    assert "invoke debug --kernel 5.10 --run TestConnect --break rejection" in after
    words = re.search(r"invoke verify (\S+) --kernels 5.10,6.1 --loader cilium-ebpf\n", after)
    assert words
    assert words[1].endswith("connect.o")
    assert "invoke bisect --run TestConnect --good 6.12 --bad 5.10" in after


def test_a_program_that_every_kernel_rejects_has_no_bisection(
    library_project: Project, pipe: io.StringIO
) -> None:
    text = printed(library_project, pipe, [run("5.10", *of_both()), run("6.1", *of_both())])
    assert "bisect" not in text
    (one,) = alike([run("5.10", *of_both())])
    assert [each.kernel for each in one.kernels] == ["5.10"]


def test_other_failures_are_explained_beside_it(
    library_project: Project, pipe: io.StringIO
) -> None:
    text = printed(library_project, pipe, [run("5.10", REJECTION)])
    assert "✗ TestConnect\n      bpf/connect.bpf.c:58: R1 type=inv expected=ctx\n" in text
    assert f"✗ TestOther\n      {OUTPUT}\n" in text
    assert "look inside   invoke debug --kernel 5.10 --run TestOther\n" in text


def test_github_shows_it_at_the_line_of_c(
    library_project: Project, pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(library_project.root))
    text = printed(library_project, pipe, [run("5.10", *of_both())])
    assert "::error file=bpf/connect.bpf.c,line=58::5.10: TestConnect, TestOther: load " in text


def test_reports_begin_with_the_line_of_c() -> None:
    matrix = Matrix.of([Result(run("5.10", REJECTION))])
    text = junit.render(matrix)
    assert 'message="bpf/connect.bpf.c:58: R1 type=inv expected=ctx (program on_connect)"' in text
    assert 'type="verifier-rejected"' in text
    assert ">bpf/connect.bpf.c:58: R1 type=inv" in text
    page = markdown.render(matrix)
    assert page.count("<pre>bpf/connect&#46;bpf&#46;c&#58;58&#58; R1 type=inv expected=ctx") == 1


def test_a_result_is_read_as_it_was_written(library_project: Project) -> None:
    path = library_project.root / "5.10.json"
    files.write(run("5.10", REJECTION), path)
    assert files.read_run(path) == run("5.10", REJECTION)


def test_the_failure_behind_a_rejection_is_printed(
    library_project: Project, pipe: io.StringIO
) -> None:
    log = "\n".join([f"{n}: (b7) r1 = {n}" for n in range(9)])
    output = (
        "libbpf: prog 'on_connect': BPF program load failed: Permission denied\n"
        f"libbpf: prog 'on_connect': -- BEGIN PROG LOAD LOG --\n{log}\n"
        "libbpf: prog 'on_connect': -- END PROG LOAD LOG --\n"
        "fallback used\nASSERT: got 3 events, want 4\n"
    )
    test = TestResult("T", "T", Outcome.FAILED, 0.1, "exit status 1", output)
    one = dataclasses.replace(REJECTION, binary="T", test="T")
    failed = KernelRun(
        "5.10",
        Outcome.FAILED,
        "T: exit status 1",
        tests=(test,),
        logs=("r/T.log",),
        rejections=(one,),
    )
    text = printed(library_project, pipe, [failed])
    assert "      fallback used\n      ASSERT: got 3 events, want 4\n" in text
    assert "exit status 1" in text
    assert "full output   r/T.log" in text
    assert "(the verifier's log: 9 lines)" in text
    assert "4: (b7)" not in text
    report = junit.render(Matrix.of([Result(failed)]))
    assert "expected=ctx (program on_connect); exit status 1" in report


def test_ctrl_c_after_the_tests_shows_their_results(
    library_project: Project, pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run("5.10", *of_both()), run("6.1", *of_both())]

    def pressed(*_: object) -> None:
        raise cli_run._InterruptedLateError({"tests": runs})

    monkeypatch.setattr(cli_run, "_run", pressed)
    with pytest.raises(KeyboardInterrupt):
        cli_run.run_chosen(library_project, ["5.10", "6.1"], TESTS, RunOptions())
    text = pipe.getvalue()
    assert "side by side" in text
    assert "5.10, 6.1  TestConnect, TestOther: load program on_connect: " in text


def test_the_reason_of_a_timeout_is_the_timeout(
    library_project: Project, pipe: io.StringIO
) -> None:
    test = TestResult("T", "T", Outcome.TIMEOUT, 2.0, "no end after 2 s", OUTPUT)
    one = dataclasses.replace(REJECTION, binary="T", test="T")
    late = KernelRun(
        "5.10", Outcome.TIMEOUT, "T: no end after 2 s", tests=(test,), rejections=(one,)
    )
    text = printed(library_project, pipe, [late])
    assert text.index("timeout: T: no end after 2 s") < text.index("also in the output of T: load")
    report = junit.render(Matrix.of([Result(late)]))
    assert 'message="timeout: no end after 2 s"' in report


def test_a_rejection_that_only_the_log_has_comes_last(
    library_project: Project, pipe: io.StringIO
) -> None:
    text = printed(
        library_project, pipe, [run("5.10", dataclasses.replace(REJECTION, test="m/probe"))]
    )
    assert text.index("✗ TestConnect") < text.index("also in the log of m/probe: load program")
    assert "break rejection" not in text


def test_a_rejection_is_of_the_test_that_printed_it() -> None:
    whole = run("5.10", dataclasses.replace(REJECTION, test="m/probe"))
    assert not any(whole.rejections_of(test) for test in whole.failures)
    one = run("5.10", REJECTION)
    assert [bool(one.rejections_of(test)) for test in one.failures] == [True, False]


PROGRAM = ProgramResult(
    *("bpf/connect.o", "on_connect", Outcome.FAILED, "libbpf"),
    code=Code.VERIFIER_REJECTED,
    reason=REJECTION.reason,
    verifier_tail=REJECTION.explanation,
    source=REJECTION.source,
)
OTHER = dataclasses.replace(PROGRAM, reason="R2 unbounded memory access")


def beside_verify(
    project: Project, pipe: io.StringIO, runs: Sequence[KernelRun], *programs: ProgramResult
) -> str:
    """Print these runs, and `verify` of these programs on the first of their kernels."""
    verified = Verification(runs[0].kernel, *verdict(programs), programs=programs)
    choice = RunChoice(("verify", "tests"), is_asked=True)
    with RunConsole(project, [one.kernel for one in runs], choice) as whole:
        for one in runs:
            suite_of(whole).finished(one)
        assert whole.programs
        whole.programs.finished(verified)
    whole.show(runs, (verified,), 1.0)
    return pipe.getvalue()


def test_a_program_that_verify_explains_is_explained_once_with_its_tests(
    library_project: Project, pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(library_project.root))
    text = beside_verify(library_project, pipe, [run("5.10", *of_both())], PROGRAM)
    assert text.count("bpf_probe_read_kernel") == 1
    assert "\n  failed tests       TestConnect, TestOther\n" in text
    words = "invoke debug --kernel 5.10 --run TestConnect --break rejection"
    assert f"\n  where it stops     {words}\n" in text
    place = "file=bpf/connect.bpf.c,line=58"
    assert text.count(f"::error {place}") == 1
    assert "(failed tests: TestConnect, TestOther)\n" in text


@pytest.mark.parametrize("other", [OTHER, dataclasses.replace(PROGRAM, expected="issue 1")])
def test_what_verify_does_not_explain_has_its_own_lines(
    library_project: Project, pipe: io.StringIO, other: ProgramResult
) -> None:
    text = beside_verify(library_project, pipe, [run("5.10", *of_both())], other)
    assert "5.10  TestConnect, TestOther: load program on_connect: " in text
    assert "failed tests" not in text


def test_a_kernel_that_verify_did_not_run_on_has_its_own_lines(
    library_project: Project, pipe: io.StringIO
) -> None:
    runs = [run("5.10", *of_both()), run("6.1", *of_both()), run("6.12")]
    text = beside_verify(library_project, pipe, runs, PROGRAM)
    assert "\n5.10  on_connect of bpf/connect.o: " in text
    assert "\n6.1  TestConnect, TestOther: load program on_connect: " in text


def test_a_kernel_of_an_image_has_no_command_of_verify(
    library_project: Project, pipe: io.StringIO
) -> None:
    again = Again(image=library_project.root / "vmlinuz")
    with_log = dataclasses.replace(PROGRAM, log="a.log")
    verified = Verification("5.4.286", *verdict([with_log]), programs=(with_log,))
    choice = RunChoice(("verify",), is_asked=True)
    with RunConsole(library_project, ["5.4.286"], choice, again) as whole:
        assert whole.programs
        whole.programs.finished(verified)
    whole.show((), (verified,), 1.0)
    assert "bpf/connect.bpf.c:58" in pipe.getvalue()
    assert "invoke verify" not in pipe.getvalue()
    assert f"invoke debug --image {library_project.root}/vmlinuz --object " in pipe.getvalue()


def test_reports_explain_the_program_once_with_its_tests() -> None:
    verified = Verification("5.10", *verdict([PROGRAM]), programs=(PROGRAM,))
    matrix = Matrix.of([Result(run("5.10", *of_both())), Result(verified)])
    page = markdown.render(matrix)
    assert page.count("bpf&#95;probe&#95;read&#95;kernel") == 1
    assert "failed tests&#58; TestConnect, TestOther" in page
    (item,) = front(matrix, ReportOrigin(declared=frozenset({"5.10"})))["items"]
    assert (item.name, item.tests) == ("on_connect", "TestConnect, TestOther")
    assert dict(item.commands)["where it stops"].endswith("--break rejection")
    # Rows and JUnit have both.
    assert len(matrix.notable_rows) == 3
    assert junit.render(matrix).count("<failure") == 3


def test_after_a_run_of_one_kernel_a_bisection_looks_for_a_good_one(
    library_project: Project, pipe: io.StringIO
) -> None:
    text = printed(library_project, pipe, [run("5.10", *of_both())])
    assert "  since when         invoke bisect --run TestConnect\n" in text
    matrix = Matrix.of([Result(run("5.10", *of_both()))])
    (item,) = front(matrix, ReportOrigin(declared=frozenset({"5.10"})))["items"][:1]
    assert dict(item.commands)["since when"] == "invoke bisect --run TestConnect"

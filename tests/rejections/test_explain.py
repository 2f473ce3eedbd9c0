"""Runs whose failures are explained, without a machine: from outputs, objects, and `verify`."""

from pathlib import Path
from typing import Any

import pytest

from bpfmatrix.config.project import Project
from bpfmatrix.payload.model import Executable, Payload
from bpfmatrix.rejections.explain import ExplanationInterrupted, explained
from bpfmatrix.rejections.object_files import FoundObject, ObjectFiles
from bpfmatrix.results import files
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Code, ProgramResult, Verification
from bpfmatrix.session.observer import Observer
from bpfmatrix.verify.objects import ObjectContents
from tests.verify.objectfiles import REJECTED, compiled

NULL = "R0 invalid mem access 'map_value_or_null'"
LINE = next(n for n, text in enumerate(REJECTED.splitlines(), 1) if "*count += 1" in text)
OUTPUT = (
    "    x_test.go:1: field Unchecked: program unchecked: load program: permission denied: "
    f"INSTRUCTION: {NULL} (13 line(s) omitted)\n"
)


@pytest.fixture
def payload(library_project: Project) -> Payload:
    """A test binary with an object in it, whose source is in the project."""
    compiled(REJECTED, library_project.root / "bpf/rejected.bpf.o")
    path = library_project.root / "agent.test"
    path.write_bytes(b"code" + (library_project.root / "bpf/rejected.bpf.o").read_bytes())
    return Payload((Executable(path, "go"),))


def run_of(output: str, *more: TestResult) -> KernelRun:
    failed = TestResult("agent", "TestX", Outcome.FAILED, output=output)
    logs = (".bpfmatrix/results/6.1/agent.log",)
    return KernelRun("6.1", Outcome.FAILED, tests=(failed, *more), logs=logs)


def explain(project: Project, payload: Payload, run: KernelRun, *known: Verification) -> KernelRun:
    (found,) = explained(project, [run], {"x86_64": payload}, Observer(), known, may_boot=False)
    return found


def instruction(project: Project) -> str:
    """Return an instruction of the line that is rejected, as a log has it."""
    from bpfmatrix.verify import line_info

    lines = line_info.read(project.root / "bpf/rejected.bpf.o", "unchecked")
    number = next(one.instruction for one in lines if one.line == LINE)
    return f"{number}: (79) r1 = *(u64 *)(r0 +0)"


def test_the_object_alone_tells_the_line(library_project: Project, payload: Payload) -> None:
    run = run_of(OUTPUT.replace("INSTRUCTION", instruction(library_project)))
    found = explain(library_project, payload, run)
    (one,) = found.rejections
    assert (one.test, one.program, one.reason) == ("TestX", "unchecked", NULL)
    assert one.source == f"bpf/rejected.bpf.c:{LINE}"
    assert one.object == "bpf/rejected.bpf.o"
    # It is written again, with what was found.
    assert files.read_run(library_project.results / "6.1.json") == found


def test_verify_of_the_same_run_is_taken(library_project: Project, payload: Payload) -> None:
    log = library_project.root / "unchecked.log"
    log.write_text(f"7: (79) r1 = *(u64 *)(r0 +0)\n{NULL}\n")
    result = ProgramResult(
        "bpf/rejected.bpf.o",
        "unchecked",
        Outcome.FAILED,
        code=Code.VERIFIER_REJECTED,
        reason=NULL,
        verifier_tail="bpf/rejected.bpf.c:19  *count += 1;",
        source="bpf/rejected.bpf.c:19",
        log="unchecked.log",
    )
    verification = Verification("6.1", Outcome.FAILED, programs=(result,))
    run = run_of(OUTPUT.replace("INSTRUCTION: ", ""))
    (one,) = explain(library_project, payload, run, verification).rejections
    assert (one.source, one.log) == ("bpf/rejected.bpf.c:19", "unchecked.log")
    assert one.explanation == result.verifier_tail
    assert one.note == ""


def test_the_log_of_an_executable_is_read_if_its_tests_print_nothing(
    library_project: Project, payload: Payload
) -> None:
    log = library_project.root / ".bpfmatrix/results/6.1/agent.log"
    log.parent.mkdir(parents=True)
    log.write_text(OUTPUT.replace("INSTRUCTION: ", ""))
    found = explain(library_project, payload, run_of("it failed"))
    (one,) = found.rejections
    # The log does not say of which test it is, so it is not called the reason of one.
    assert (one.test, one.program) == ("agent", "unchecked")
    assert not found.is_reason(one)


def test_what_a_test_that_passed_printed_is_no_reason_of_another(
    library_project: Project, payload: Payload
) -> None:
    line = OUTPUT.replace("INSTRUCTION: ", "")
    log = library_project.root / ".bpfmatrix/results/6.1/agent.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"=== RUN TestOptional\n{line}--- PASS\n=== RUN TestX\nit failed\n")
    optional = TestResult("agent", "TestOptional", Outcome.PASSED, output=line)
    assert explain(library_project, payload, run_of("it failed", optional)).rejections == ()
    # Nor is it that of the executable, whose output is that of its tests.
    whole = TestResult("agent", "agent", Outcome.FAILED, output=log.read_text())
    run = KernelRun("6.1", Outcome.FAILED, tests=(optional, whole), logs=run_of("").logs)
    assert explain(library_project, payload, run).rejections == ()


def test_a_program_that_no_object_has_is_no_rejection(
    library_project: Project, payload: Payload
) -> None:
    words = "nginx: program loader: load program: permission denied\n"
    assert explain(library_project, payload, run_of(words)).rejections == ()
    # A verifier's log is one, whoever has the object.
    (one,) = explain(library_project, payload, run_of(f"{words}\t{NULL}\n")).rejections
    assert one.program == "loader"


def test_ctrl_c_while_programs_are_loaded_again_keeps_what_is_known(
    library_project: Project, payload: Payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[int | None] = []

    def pressed(*words: Any) -> None:
        jobs.append(words[-1])
        raise KeyboardInterrupt

    monkeypatch.setattr("bpfmatrix.rejections.explain.run_side_by_side", pressed)
    run = run_of(OUTPUT.replace("INSTRUCTION: ", ""))
    with pytest.raises(ExplanationInterrupted) as raised:
        explained(library_project, [run], {"x86_64": payload}, Observer(), jobs=1)
    (found,) = raised.value.runs
    assert [one.program for one in found.rejections] == ["unchecked"]
    assert files.read_run(library_project.results / "6.1.json") == found
    assert jobs == [1]


class Notes(Observer):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        """See Observer."""
        self.texts.append(text)


def test_programs_that_are_not_loaded_again_are_counted(
    library_project: Project, payload: Payload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def having(*_: object) -> list[FoundObject]:
        return [FoundObject(library_project.root / "bpf/rejected.bpf.o", contents)]

    contents = ObjectContents(tuple(f"p{n}" for n in range(21)), frozenset(), "")
    monkeypatch.setattr(ObjectFiles, "having", having)
    monkeypatch.setattr("bpfmatrix.rejections.explain._loaded", lambda *_: [])
    words = "libbpf: prog '{}': BPF program load failed: Permission denied\n"
    run = run_of("".join(map(words.format, contents.programs)))
    observer = Notes()
    (found,) = explained(library_project, [run], {"x86_64": payload}, observer)
    assert len(found.rejections) == 21
    assert observer.texts == ["only 20 of 21 programs that did not load are loaded again"]


def test_tests_that_are_not_looked_at_are_counted(
    library_project: Project, payload: Payload
) -> None:
    tests = [TestResult("agent", f"Test{n}", Outcome.FAILED) for n in range(101)]
    run, observer = KernelRun("6.1", Outcome.FAILED, tests=tuple(tests)), Notes()
    explained(library_project, [run], {"x86_64": payload}, observer)
    assert "only looked for in the first 100 of 101 tests that failed" in observer.texts[0]


def test_a_run_without_a_rejection_is_left_alone(
    library_project: Project, payload: Payload, tmp_path: Path
) -> None:
    run = run_of("expected 1, got 2")
    assert explain(library_project, payload, run) is run
    assert not (library_project.results / "6.1.json").exists()

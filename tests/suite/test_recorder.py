"""The results of test executables, from their output and from how they ended."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite import recorder
from bpfmatrix.suite.recorder import Recorder
from bpfmatrix.vm.limits import Limit
from bpfmatrix.vm.protocol import Exited, TestCommand
from tests.goproject import GoModule

End = Exited | tuple[Outcome, str]


def record(log: Path, chunks: Sequence[bytes], end: End, kind: str = "program") -> list[TestResult]:
    """Record an executable that prints these chunks and ends like this; return its results."""
    reported: list[TestResult] = []

    async def take() -> None:
        test = Executable(Path("/x/sample.test"), "go" if kind == "go-test" else "plain")
        command = TestCommand(1, ("/payload/sample.test",), 2)
        it = Recorder(test, command, log, Limit(2, "timeout.test"), reported.append)
        await it.start()
        for chunk in chunks:
            await it.feed(chunk)
        if isinstance(end, Exited):
            await it.close(end)
        else:
            await it.abandon(*end)
        await it.abandon(Outcome.LOST, "later")  # has no effect after the end
        it.kill()

    asyncio.run(take())
    return reported


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "sample.log"


@pytest.mark.parametrize(
    ("end", "outcome", "reason"),
    [
        (Exited(1, 0), Outcome.PASSED, ""),
        (Exited(1, 1), Outcome.FAILED, "exit status 1"),
        (Exited(1, 139), Outcome.FAILED, "killed by SIGSEGV"),
        (Exited(1, 137, limit=True), Outcome.TIMEOUT, "ran into its limit of 2 s (timeout.test)"),
        # The limit decides, even if the executable ended with 0.
        (Exited(1, 0, limit=True), Outcome.TIMEOUT, "ran into its limit of 2 s (timeout.test)"),
        (
            Exited(1, 137, oom_kills=1),
            Outcome.FAILED,
            "killed by the kernel: the guest's memory was full",
        ),
        (Exited(1, 0, oops=True), Outcome.FAILED, "the kernel had an oops while it ran"),
        ((Outcome.PANIC, "sysrq"), Outcome.PANIC, "sysrq"),
    ],
)
def test_the_end_of_an_executable_decides_its_outcome(
    log: Path, end: End, outcome: Outcome, reason: str
) -> None:
    [result] = record(log, [b"PASS\nok\n"], end)
    assert (result.name, result.outcome, result.reason) == ("sample", outcome, reason)
    assert result.output == "PASS\nok\n"
    assert log.read_bytes() == b"PASS\nok\n"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 3))
def test_characters_may_be_split_between_chunks(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int
) -> None:
    data = text.encode()
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    log = tmp_path_factory.getbasetemp() / "any.log"
    [result] = record(log, chunks, Exited(1, 0))
    assert result.output == text
    assert log.read_bytes() == data


def test_bytes_that_are_not_utf_8_are_kept_in_the_log(log: Path) -> None:
    [result] = record(log, [b"a\xff\xc3"], Exited(1, 0))
    assert log.read_bytes() == b"a\xff\xc3"
    assert result.output == "a��"


def test_a_flood_of_output_is_cut(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_LOG_BYTES", 3 << 20)
    [result] = record(log, [b"x" * (1 << 20)] * 10, Exited(1, 1))
    assert log.stat().st_size < (3 << 20) + 100
    assert log.read_bytes().count(b"... cut here, after 3 MiB ...") == 1
    assert len(result.output) < 70_000
    assert result.outcome is Outcome.FAILED


def outcomes(results: Sequence[TestResult]) -> dict[str, tuple[str, str]]:
    assert len({r.name for r in results}) == len(results)
    return {r.name: (str(r.outcome), r.reason) for r in results}


def test_each_go_test_is_a_result(log: Path, go_module: GoModule) -> None:
    status, output = go_module.run("-test.run=TestPass|TestFail")
    found = outcomes(record(log, [output], Exited(1, status), "go-test"))
    assert found == {"TestPass": ("passed", ""), "TestFail": ("failed", "want 1, got 2")}
    assert log.read_bytes() == output


def test_a_go_test_that_ran_into_the_limit(log: Path, go_module: GoModule) -> None:
    _, output = go_module.run("-test.run=TestPass|TestHangs", "-test.timeout=1s", sample="hang")
    cut = output[: output.index(b"\x16=== RUN   TestHangs\n") + 22]
    found = outcomes(record(log, [cut], Exited(1, 137, limit=True), "go-test"))
    assert found == {
        "TestPass": ("passed", ""),
        "TestHangs": ("timeout", "ran into its limit of 2 s (timeout.test)"),
    }


def test_the_go_test_that_was_running_gets_the_end_of_the_machine(
    log: Path, go_module: GoModule
) -> None:
    _, output = go_module.run("-test.run=TestPass|TestFail")
    cut = output[: output.index(b"\x16=== RUN   TestFail\n") + 21]
    found = outcomes(record(log, [cut], (Outcome.PANIC, "sysrq"), "go-test"))
    assert found == {"TestPass": ("passed", ""), "TestFail": ("panic", "sysrq")}


def test_a_go_binary_that_fails_outside_of_its_tests(log: Path, go_module: GoModule) -> None:
    _, output = go_module.run("-test.run=TestPass")
    found = outcomes(record(log, [output], Exited(1, 1), "go-test"))
    assert found == {"TestPass": ("passed", ""), "sample": ("failed", "exit status 1")}


def test_a_go_binary_that_passes_with_a_test_that_did_not_end(
    log: Path, go_module: GoModule
) -> None:
    _, output = go_module.run("-test.run=TestPass")
    cut = output[: output.index(b"\x16--- PASS")]
    found = outcomes(record(log, [cut], Exited(1, 0), "go-test"))
    assert found == {"TestPass": ("failed", "did not end")}


def test_an_oops_fails_the_binary_even_if_all_its_tests_passed(
    log: Path, go_module: GoModule
) -> None:
    _, output = go_module.run("-test.run=TestPass")
    found = outcomes(record(log, [output], Exited(1, 0, oops=True), "go-test"))
    assert found["sample"] == ("failed", "the kernel had an oops while it ran")


def test_without_go_a_test_binary_is_a_single_result(
    log: Path, go_module: GoModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bpfmatrix.suite.formats.go.GoReader.available", lambda: False)
    status, output = go_module.run("-test.run=TestPass|TestFail")
    [result] = record(log, [output], Exited(1, status), "go-test")
    assert (result.name, result.outcome) == ("sample", Outcome.FAILED)
    assert "want 1, got 2" in result.output

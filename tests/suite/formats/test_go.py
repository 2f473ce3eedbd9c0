"""The results of Go tests, read from the output of a real test binary."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpfmatrix.payload.go import run_arguments
from bpfmatrix.payload.model import Executable
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats import throttle as throttles
from bpfmatrix.suite.formats.base import KEPT_CHARACTERS, End
from bpfmatrix.suite.formats.go import GoReader
from bpfmatrix.suite.formats.go_reasons import failure_reason
from bpfmatrix.suite.formats.throttle import Throttle
from tests.goproject import GoModule

PASSED = End(Outcome.PASSED, status=0)
FAILED = End(Outcome.FAILED, "why", 2)
TESTS_FAILED = End(Outcome.FAILED, "why", 1)
TIMEOUT = End(Outcome.TIMEOUT, "why", 137)
LOST = End(Outcome.LOST, "why")


def read(
    output: bytes, chunk_bytes: int = 1000, end: End = FAILED, folder: Path | None = None
) -> tuple[dict[str, TestResult], GoReader]:
    """Feed an output; return the result of each test, including those that did not end."""
    found: list[TestResult] = []

    async def feed() -> GoReader:
        test = Executable(Path("/x/sample.test"), "go", folder=folder)
        reader = GoReader(test, ("sample.test",), found.append)
        await reader.start()
        for start in range(0, len(output), chunk_bytes):
            await reader.feed(output[start : start + chunk_bytes])
        await reader.close(end)
        return reader

    reader = asyncio.run(feed())
    assert len({test.name for test in found}) == len(found), "a test was reported twice"
    return {test.name: test for test in found}, reader


def outcomes(found: dict[str, TestResult]) -> dict[str, str]:
    return {name: str(test.outcome) for name, test in found.items()}


@pytest.fixture(scope="module")
def recorded(go_module: GoModule) -> bytes:
    status, output = go_module.run()
    assert status == 1
    return output


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_each_test_has_its_result(recorded: bytes, chunk_bytes: int) -> None:
    found, _ = read(recorded, chunk_bytes, end=TESTS_FAILED)
    many = {f"TestMany/{n}": "passed" for n in range(200)}
    assert outcomes(found) == many | {
        "TestPass": "passed",
        "TestFail": "failed",
        "TestSkip": "skipped",
        "TestSubtests/good": "passed",
        "TestSubtests/bad": "failed",
        "TestSubtests/skipped": "skipped",
        "TestSubtests/outer/in_ner": "passed",
        "TestParallel/0": "passed",
        "TestParallel/1": "passed",
        "TestParallel/2": "passed",
        "TestPrints": "passed",
        "TestArguments": "passed",
        "TestPanics": "passed",
        "TestExits": "passed",
        "TestHangs": "passed",
    }


def test_a_result_says_why(recorded: bytes) -> None:
    found, _ = read(recorded)
    assert found["TestFail"].reason == "want 1, got 2"  # and not what it logged before
    assert "before" in found["TestFail"].output
    assert found["TestSkip"].reason == "needs 5.17: bpf_loop"
    assert found["TestSubtests/bad"].reason == "no such map"
    assert found["TestPass"].reason == ""
    assert found["TestParallel/2"].output.count("of 2") == 1
    assert "of 1" not in found["TestParallel/2"].output


def test_what_a_test_prints_is_its_output_and_no_result(recorded: bytes) -> None:
    found, _ = read(recorded)
    assert "TestFake" not in found
    printed = found["TestPrints"].output
    assert "--- PASS: TestFake" in printed
    assert "half a line" in printed


def test_a_pattern_without_a_match_gives_no_result(go_module: GoModule) -> None:
    status, output = go_module.run(*run_arguments("NoSuchTest")[2:])
    assert status == 0
    found, go = read(output, end=PASSED)
    assert found == {}
    assert "no tests to run" in go.output


def test_a_pattern_chooses_a_subtest(go_module: GoModule) -> None:
    _, output = go_module.run(*run_arguments("TestSubtests/good")[2:])
    assert outcomes(read(output, end=PASSED)[0]) == {"TestSubtests/good": "passed"}


def test_a_panic_belongs_to_the_test_that_panicked(go_module: GoModule) -> None:
    status, output = go_module.run("-test.run=TestPass|TestPanics", sample="panic")
    assert status == 2
    found, _ = read(output, end=FAILED)
    assert found["TestPass"].outcome is Outcome.PASSED
    assert found["TestPanics/inner"].outcome is Outcome.FAILED
    told = "".join(test.output for name, test in found.items() if name.startswith("TestPanics"))
    assert "panic: on purpose" in told
    assert "sample_test.go" in told


@pytest.mark.parametrize(
    ("sample", "reasons"),
    [
        (
            "panic",
            dict.fromkeys(("", "/inner"), "panic: on purpose (sample_test.go:60)"),
        ),
        ("panic-below", dict.fromkeys(("", "/a", "/a/b"), "panic: below (sample_test.go:66)")),
        ("panic-top", {"": "panic: at the top (sample_test.go:71)"}),
        ("panic-goroutine", dict.fromkeys(("", "/inner"), "panic: elsewhere (sample_test.go:75)")),
        ("panic-words", {"": "why", "/inner": "the real reason"}),
    ],
)
def test_a_panic_is_the_reason_of_the_tests_that_it_ended(
    go_module: GoModule, sample: str, reasons: dict[str, str]
) -> None:
    _, output = go_module.run("-test.run=TestPanics", sample=sample)
    for chunk_bytes in (7, 1 << 20):
        found, _ = read(output, chunk_bytes, end=FAILED)
        assert {name: test.reason for name, test in found.items()} == {
            f"TestPanics{name}": reason for name, reason in reasons.items()
        }


def test_a_panic_of_one_of_several_parallel_tests_is_the_reason_of_that_one(
    go_module: GoModule,
) -> None:
    _, output = go_module.run("-test.run=TestPanics", "-test.parallel=1", sample="panic-parallel")
    found, _ = read(output, end=FAILED)
    assert found["TestPanics/1"].reason == "panic: one of three (sample_test.go:85)"
    assert found["TestPanics"].reason == "panic: one of three (sample_test.go:85)"


def test_an_exit_status_that_says_more_than_that_tests_failed(go_module: GoModule) -> None:
    _, output = go_module.run("-test.run=TestFail")
    assert outcomes(read(output, end=TESTS_FAILED)[0]) == {"TestFail": "failed"}
    found, _ = read(output, end=FAILED)
    assert outcomes(found) == {"TestFail": "failed", "sample": "failed"}
    assert found["sample"].reason == "why"
    # A panic outside of the tests is of none of them.
    stacks = b"panic: at the end\n\ngoroutine 1 [running]:\nmain.f()\n\t/x/main.go:1 +0x1\n"
    assert outcomes(read(output + stacks, end=FAILED)[0])["sample"] == "failed"
    _, output = go_module.run("-test.run=TestPanics", sample="panic-top")
    assert set(read(output, end=FAILED)[0]) == {"TestPanics"}


def test_a_source_file_is_read_again_in_the_next_run(tmp_path: Path) -> None:
    output = b"""\x16=== RUN   TestX
    x_test.go:1: first
    x_test.go:2: second
\x16--- FAIL: TestX (0.00s)
\x16FAIL
"""
    for source, reason in (
        ("t.Error(x)\nt.Log(err.Error())\n", "first"),
        ("t.Log(err.Error())\nt.Error(x)\n", "second"),
    ):
        (tmp_path / "x_test.go").write_text(source)
        found, _ = read(output, end=TESTS_FAILED, folder=tmp_path)
        assert found["TestX"].reason == reason


def test_a_panic_is_no_reason_of_a_machine_that_ended(go_module: GoModule) -> None:
    _, output = go_module.run("-test.run=TestPanics", sample="panic-goroutine")
    found, _ = read(output, end=LOST)
    assert {test.reason for test in found.values()} == {"why"}


@pytest.mark.parametrize(("sample", "status"), [("exit0", 2), ("exit3", 3)])
def test_a_test_that_exits_did_not_pass(go_module: GoModule, sample: str, status: int) -> None:
    got, output = go_module.run("-test.run=TestPass|TestExits", sample=sample)
    assert got == status
    found, _ = read(output, end=FAILED)
    assert outcomes(found) == {"TestPass": "passed", "TestExits": "failed"}


def test_a_test_that_began_has_a_result_wherever_the_output_ends(recorded: bytes) -> None:
    for end in range(0, len(recorded), 997):
        found, _ = read(recorded[:end], end=TIMEOUT)
        begun = recorded[:end].count(b"\x16=== RUN   TestPass\n")
        assert ("TestPass" in found) == bool(begun)


def test_a_long_line_is_cut_and_the_result_kept(go_module: GoModule) -> None:
    _, output = go_module.run("-test.run=TestPass")
    where = output.index(b"    sample_test.go")
    long = output[:where] + b"x" * (1 << 20) + b"\n" + output[where:]
    found, _ = read(long, chunk_bytes=1 << 16, end=PASSED)
    assert outcomes(found) == {"TestPass": "passed"}
    assert len(found["TestPass"].output) < 2 * KEPT_CHARACTERS


GO_LINES = st.sampled_from(
    [
        b"\x16=== RUN   TestX\n",
        b"\x16=== RUN   TestX/sub\n",
        b"    \x16--- FAIL: TestX/sub (0.00s)\n",
        b"\x16--- FAIL: TestX (0.00s)\n",
        b"\x16--- PASS: TestY (x)\n",
        b"\x16=== NAME  TestX\n",
        b"panic: x\n",
        b"goroutine 1 [running]:\n",
        b"main.f()\n\t/x/y.go:1 +0x1\n",
    ]
)


@settings(max_examples=40)  # each starts test2json twice
@given(st.lists(GO_LINES | st.binary(max_size=20)), st.integers(1, 50))
def test_any_output_is_read_and_chunks_make_no_difference(
    lines: list[bytes], chunk_bytes: int
) -> None:
    output = b"".join(lines)
    found, _ = read(output, chunk_bytes)
    assert outcomes(found) == outcomes(read(output, 1 << 20)[0])
    assert "failed" in outcomes(found).values()


@given(st.lists(st.binary(max_size=8).map(lambda data: data.replace(b"\x16", b""))))
def test_little_output_passes_the_throttle_unchanged(chunks: Sequence[bytes]) -> None:
    throttle = Throttle()
    assert b"".join(throttle.feed(chunk) for chunk in chunks) == b"".join(chunks)


@given(st.lists(st.sampled_from([b"\x16=== RUN A\n", b"xxxx\n", b"yyyyyyyy\n"])))
def test_the_throttle_lets_all_frames_through(pieces: list[bytes]) -> None:
    frames = b"\x16=== RUN A\n"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttles, "_THROTTLED_BYTES", 20)
        throttle = Throttle()
        passed = b"".join(throttle.feed(piece) for piece in pieces)
    assert passed.count(frames) == pieces.count(frames)


def test_the_throttle_cuts_a_flood_and_says_so() -> None:
    throttle = Throttle()
    passed = b"".join(throttle.feed(b"x" * 1000 + b"\n") for _ in range(10_000))
    passed += throttle.feed(b"\x16--- PASS: TestX (0.00s)\n")
    assert len(passed) < 300_000
    assert passed.count(b"... cut here, the log has the rest ...") == 1
    assert passed.endswith(b"\x16--- PASS: TestX (0.00s)\n")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ('t.Error("x")', 't.Log("y", err.Error())', "x"),
        ("t.Log(err.Error())", "helper(t)", "y"),
        ("helper(t)", "t.Logf(format, err.Error())", "x"),
        ("t.Fatal(err.Error())", "helper(t)", "x"),
        ("t.Fatal(it.Log(1))", "helper(t)", "x"),
        ("t.Log(it.Error(1))", "t.Log(2)", ""),
    ],
)
def test_a_log_of_an_error_is_no_reason(first: str, second: str, reason: str) -> None:
    output = "    x_test.go:1: x\n    x_test.go:2: y\n"
    assert failure_reason(output, lambda _, line: (first, second)[line - 1]) == reason


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("", ""),
        ("=== RUN   TestX\n--- SKIP: TestX (0.00s)\n", ""),
        ("=== RUN   TestX\n    x_test.go:12: needs 5.17\n--- SKIP: TestX\n", "needs 5.17"),
        ("=== RUN   TestX\n\n  plain\n", ""),
        ("    a/b-c_test.go:1: x: y\n", "x: y"),
        ("    x_test.go:1: logged before\n    x_test.go:2: failed\n", "failed"),
        ("    x_test.go:1: logged\npanic: boom\n\ngoroutine 1 [running]:\n", "panic: boom"),
        ("panic: printed\n    x_test.go:1: failed\n", "failed"),
    ],
)
def test_the_reason_is_a_panic_or_the_last_line_of_the_test(output: str, line: str) -> None:
    assert failure_reason(output) == line

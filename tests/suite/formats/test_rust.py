"""Rust's libtest and cargo-nextest."""

import subprocess
from pathlib import Path

import pytest

from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.model import Format
from bpfmatrix.rootfs.root import FolderRoot
from tests.suite.formats.reading import PASSED, TIMEOUT, exited, read, run, told

SOURCE = Path(__file__).with_name("sources") / "libtest.rs"

# As rustc 1.95 prints it.
LIBTEST = """
running 6 tests
test tests::ignored ... ignored, needs 5.17
test tests::passes ... ok
test tests::result ... FAILED
test tests::should - should panic ... FAILED
test tests::should_ok - should panic ... ok
test tests::fails ... FAILED

failures:

---- tests::result stdout ----
Error: "no such map"

---- tests::should stdout ----
note: test did not panic as expected at t.rs:6:32
---- tests::fails stdout ----
printed

thread 'tests::fails' (18372) panicked at t.rs:4:47:
assertion `left == right` failed: the number of maps
  left: 1
 right: 2
stack backtrace:
   0: __rustc::rust_begin_unwind
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace


failures:
    tests::fails
    tests::result
    tests::should

test result: FAILED. 2 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.40s

"""

# As cargo-nextest 0.9.148 prints it.
NEXTEST = """\
    Finished `test` profile [unoptimized + debuginfo] target(s) in 0.06s
────────────
 Nextest run ID dceed3fd-f6f0-4d04-b232-6c0081756ed9 with nextest profile: default
    Starting 5 tests across 1 binary (1 test skipped)
     SIGABRT [   0.069s] (1/5) demo tests::dies
  stdout ───

    running 1 test

    (test aborted with signal 6: SIGABRT)

        PASS [   0.052s] (2/5) demo tests::passes
        FAIL [   0.064s] (3/5) demo tests::result
  stdout ───

    running 1 test
    test tests::result ... FAILED

    failures:

    failures:
        tests::result

    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out

  stderr ───
    Error: "no such map"

  TRY 1 FAIL [   1.113s] (4/5) demo tests::fails
  stderr ───

    thread 'tests::fails' (26392) panicked at src/lib.rs:4:47:
    assertion `left == right` failed: the number of maps
      left: 1
     right: 2
    note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.

  TRY 2 PASS [   1.010s] (4/5) demo tests::fails
  TRY 1 FAIL [   1.113s] (5/5) demo tests::again
  TRY 2 FAIL [   1.113s] (5/5) demo tests::again
  stderr ───

    thread 'tests::again' (26392) panicked at src/lib.rs:9:1:
    on purpose

────────────
     Summary [   1.275s] 5 tests run: 2 passed, 3 failed, 1 skipped
     SIGABRT [   0.069s] (1/5) demo tests::dies
        FAIL [   0.064s] (3/5) demo tests::result
  TRY 2 FAIL [   1.113s] (5/5) demo tests::again
error: test run failed
"""

# As older ones print the same.
OLD_NEXTEST = """\
    Starting 1 test across 2 binaries
        FAIL [   0.014s] takeoff::main test_set_origin

--- STDOUT:              takeoff::main test_set_origin ---

running 1 test
--- STDERR:              takeoff::main test_set_origin ---
thread 'test_set_origin' panicked at 'it is wrong', tests/main.rs:34:9
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

   Cancelling due to test failure
------------
     Summary [   0.015s] 1 test run: 0 passed, 1 failed, 0 skipped
        FAIL [   0.014s] takeoff::main test_set_origin
"""


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
@pytest.mark.parametrize("format", ["libtest", "auto"])
def test_libtest(chunk_bytes: int, format: Format) -> None:
    found = read(format, LIBTEST.encode(), exited(101), chunk_bytes=chunk_bytes)
    assert told(found) == {
        "tests::ignored": "skipped | needs 5.17",
        "tests::passes": "passed",
        "tests::should_ok": "passed",
        "tests::result": 'failed | "no such map"',
        "tests::should": "failed | test did not panic as expected at t.rs:6:32",
        "tests::fails": (
            "failed | assertion `left == right` failed: the number of maps; left: 1; right: 2 "
            "(t.rs:4)"
        ),
    }
    assert found["tests::fails"].output.strip().startswith("printed\n")


def test_libtest_that_was_cut_short() -> None:
    alone = b"running 3 tests\ntest a ... ok\ntest b ... printed"
    assert told(read("libtest", alone, TIMEOUT)) == {
        "a": "passed",
        "b": "timeout | ran into its limit",
        "sample": "timeout | 1 of 3 tests did not end, or never ran",
    }
    assert told(read("libtest", alone, PASSED))["b"] == "failed | did not end"
    together = b"running 3 tests\ntest a ... ok\nthread 'c' panicked at a.rs:1:2:\nwhy\n"
    assert told(read("libtest", together, exited(101))) == {
        "a": "passed",
        "sample": "failed | why (a.rs:1); 2 of 3 tests did not end, or never ran",
    }


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (b"running 10 tests\ntest a ... ok\n", "9 of 10 tests did not end, or never ran"),
        (b"running 2 tests\n", "2 of 2 tests did not end, or never ran"),
        # The list of what passed is of no form that is known; the result says that all ran.
        (b"running 2 tests\n..\ntest result: ok. 2 passed; 0 failed\n", ""),
    ],
)
def test_libtest_that_exits_with_0_early_did_not_pass(output: bytes, said: str) -> None:
    assert told(read("libtest", output)).get("sample") == (f"failed | {said}" if said else "passed")


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_what_a_test_prints_is_not_its_verdict(chunk_bytes: int) -> None:
    output = b"""
running 6 tests
test a ... it took
boom
FAILED
test b ... all is ok
and on it goes
ok
test c ... no end of its lineok
test d ... all is ok
no end of its lineFAILED
test e ... test inner ... FAILED
ok
test f ... failures:
ok

failures:

failures:
    a
    d

test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out
"""
    found = read("libtest", output, exited(101), chunk_bytes=chunk_bytes)
    assert told(found) == {
        "a": "failed | boom",
        "b": "passed",
        "c": "passed",
        "d": "failed | no end of its lineFAILED",
        "e": "passed",
        "f": "passed",
    }
    assert found["b"].output == "all is ok\nand on it goes"


def test_an_exit_status_that_says_more_than_that_tests_failed() -> None:
    assert told(read("libtest", LIBTEST.encode(), exited(3)))["sample"].startswith("failed | ")
    found = told(read("nextest", NEXTEST.encode(), exited(102)))
    assert found["sample"] == "failed | exit status 102"


def test_nextest() -> None:
    assert told(read("nextest", NEXTEST.encode(), exited(100))) == {
        "demo tests::dies": "failed | killed by SIGABRT: (test aborted with signal 6: SIGABRT)",
        "demo tests::passes": "passed",
        "demo tests::result": 'failed | "no such map"',
        "demo tests::fails": "passed",
        "demo tests::again": "failed | on purpose (src/lib.rs:9)",
    }
    assert told(read("nextest", OLD_NEXTEST.encode(), exited(100))) == {
        "takeoff::main test_set_origin": "failed | it is wrong (tests/main.rs:34)"
    }


def test_nextest_that_was_cut_short() -> None:
    cut = NEXTEST[: NEXTEST.index("        FAIL [   0.064s]")]
    found = told(read("nextest", cut.encode(), TIMEOUT))
    assert found["sample"] == "timeout | ran into its limit; 3 of 5 tests never ran"


def test_nextest_whose_planned_tests_did_not_come() -> None:
    start = "    Starting 3 tests across 1 binary\n        PASS [   0.052s] demo a\n"
    found = told(read("nextest", start.encode()))
    assert found == {"demo a": "passed", "sample": "failed | 2 of 3 tests never ran"}
    # What passed is not listed if the user's configuration says so.
    for count, said in (("3", None), ("2/3", "failed | 1 of 3 tests never ran")):
        end = f"------------\n     Summary [   0.012s] {count} tests run: {count[0]} passed\n"
        assert told(read("nextest", (start + end).encode())).get("sample") == said


@pytest.mark.runners
def test_libtest_of_rustc(tmp_path: Path) -> None:
    binary = tmp_path / "sample"
    subprocess.run(["rustc", "--test", "-o", binary, SOURCE], check=True)
    subprocess.run(["strip", binary], check=True)
    assert executable(binary, "x86_64", FolderRoot(Path("/"))).format == "libtest"
    expected = {
        "passes": "passed",
        "ignored": "skipped | needs 5.17",
        "dies": "passed",
        "should": f"failed | test did not panic as expected at {SOURCE}:18:4",
        "should_ok": "passed",
        "result": 'failed | "no such map"',
        "fails": (
            "failed | assertion `left == right` failed: the number of maps; left: 1; right: 2 "
            f"({SOURCE}:9)"
        ),
    }
    output, end = run([binary])
    assert told(read("auto", output, end)) == expected
    output, end = run([binary, "--test-threads=1"], env={"DIE": "1"})
    assert told(read("libtest", output, end)) == {
        "dies": "failed | exit status 134",
        "sample": "failed | 6 of 7 tests did not end, or never ran",
    }

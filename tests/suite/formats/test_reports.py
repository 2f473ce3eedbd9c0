"""Runners that write JUnit XML: pytest as it runs here; GoogleTest and Catch2 if they are here."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.payload.executables import executable
from bpfmatrix.payload.model import FORMATS, Format
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.rootfs.root import FolderRoot
from bpfmatrix.suite.formats import arguments
from tests.suite.formats.reading import FAILED, PASSED, TIMEOUT, exited, read, run, told

SOURCES = Path(__file__).with_name("sources")


def run_with_report(
    format: Format, argv: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None
) -> dict[str, TestResult]:
    """Run an executable with the arguments of its format; return the results."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    output, end = run([*argv, *arguments(format, str(report))], folder, env)
    return read(format, output, end, report=report.read_bytes() if report.exists() else None)


@pytest.fixture
def suite(tmp_path: Path) -> list[str]:
    """A suite for pytest; the words are its command line."""
    shutil.copy(SOURCES / "pytest_suite.py", tmp_path / "test_maps.py")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    return [sys.executable, "-m", "pytest", str(tmp_path)]


FINISHED = {
    "test_maps.py::TestMaps::test_passes": "passed",
    "test_maps.py::TestMaps::test_fails": (
        "failed | AssertionError: of maps; assert {'a': 1} == {'a': 2} (test_maps.py:17)"
    ),
    "test_maps.py::test_odd[1]": "passed",
    "test_maps.py::test_odd[2]": "failed | assert (2 % 2) (test_maps.py:22)",
    "test_maps.py::test_skipped": "skipped | needs 5.17",
    "test_maps.py::test_xfail": "failed | failed | known bug",
    "test_maps.py::test_xpass": "failed | [XPASS(strict)] known bug",
    "test_maps.py::test_error": (
        "failed | failed on setup: RuntimeError: no disk (test_maps.py:42)"
    ),
    "test_maps.py::test_teardown": (
        "failed | failed on teardown: RuntimeError: at the end (test_maps.py:52)"
    ),
    "test_maps.py::test_dies": "passed",
    "test_maps.py::test_raises": (
        "failed | PermissionError: [Errno 1] not permitted (test_maps.py:65)"
    ),
}


def test_pytest(suite: list[str], tmp_path: Path) -> None:
    assert told(run_with_report("pytest", suite, tmp_path)) == FINISHED


def test_a_file_that_pytest_can_not_import(suite: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text("import nothing_like_it\n")
    assert told(run_with_report("pytest", suite, tmp_path)) == {
        "test_broken.py": "failed | ModuleNotFoundError: No module named 'nothing_like_it'",
        "sample": "failed | pytest was interrupted, so tests may not have run (exit status 2)",
    }


def test_pytest_that_is_killed_names_the_test_that_ran(suite: list[str], tmp_path: Path) -> None:
    found = told(run_with_report("pytest", suite, tmp_path, {"DIE": "1"}))
    assert found["test_maps.py::test_dies"] == "failed | exit status 137; it wrote no report"
    assert found["test_maps.py::TestMaps::test_passes"] == "passed"
    assert found["test_maps.py::test_skipped"] == "skipped | needs 5.17"
    assert found["test_maps.py::test_xfail"] == "failed | xfail | known bug"
    assert "test_maps.py::test_raises" not in found


def test_pytest_without_a_test_is_no_pass(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(tmp_path)]
    assert told(run_with_report("pytest", words, tmp_path)) == {"sample": "failed | exit status 5"}


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        (None, "it wrote no report"),
        (b"<testsuites><testsuite>", "its report can't be read: no element found"),
        (b"\xff\xfe", "its report can't be read: "),
        (b"<html/>", "its report can't be read: "),
        (b"<testsuite><testcase time='x' name='a'/></testsuite>", "its report can't be read: "),
        (
            b"<testsuite>" * 9999 + b"</testsuite>" * 9999,
            "its report can't be read: its suites",
        ),
        (
            b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/hostname'>]><testsuite>&x;</testsuite>",
            "its report can't be read: undefined entity",
        ),
    ],
)
@pytest.mark.parametrize("format", ["gtest", "catch2", "pytest"])
def test_without_a_report_the_exit_status_decides_and_the_result_says_so(
    format: Format, report: bytes | None, problem: str
) -> None:
    passed = told(read(format, b"", PASSED, report=report))["sample"]
    assert passed.startswith(f"passed | {problem}")
    assert passed.endswith(", so its exit status decided")
    failed = told(read(format, b"", FAILED, report=report))["sample"]
    assert failed.startswith(f"failed | exit status 1; {problem}")
    late = told(read(format, b"", TIMEOUT, report=report))["sample"]
    assert late.startswith(f"timeout | ran into its limit; {problem}")


def test_a_report_makes_no_failure_pass() -> None:
    report = b"<testsuite name='s'><testcase classname='A' name='b'/></testsuite>"
    found = told(read("gtest", b"", FAILED, report=report))
    assert found == {"A.b": "passed", "sample": "failed | exit status 1"}


def test_a_report_can_make_a_pass_fail() -> None:
    report = b"<testsuite><testcase name='b'><failure message='no'/></testcase></testsuite>"
    assert told(read("catch2", b"", PASSED, report=report)) == {"b": "failed | no"}


PRINTED = b"""[==========] Running 3 tests from 1 test suite.
[ RUN      ] A.fakes
[       OK ] A.other (0 ms)
half a line[       OK ] A.fakes (2 ms)
[ RUN      ] A.fails
a.cc:3: Failure
Value of: false
a.cc:4: Failure
Value of: true
[  FAILED  ] A.fails, where GetParam() = 2 (1 ms)
[ RUN      ] A.hangs
here
"""


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_what_googletest_printed_is_read_if_it_wrote_nothing(chunk_bytes: int) -> None:
    found = read("gtest", PRINTED, TIMEOUT, chunk_bytes=chunk_bytes)
    assert told(found) == {
        "A.fakes": "passed",
        "A.fails": "failed | Value of: false (a.cc:3)",
        "A.hangs": "timeout | ran into its limit; it wrote no report",
    }
    assert found["A.hangs"].output == "here\n"


@pytest.mark.parametrize("format", ["gtest", "pytest"])
def test_an_exit_status_that_says_more_than_that_tests_failed(format: Format) -> None:
    report = b"<testsuite><testcase name='b'><failure message='no'/></testcase></testsuite>"
    assert told(read(format, b"", FAILED, report=report)) == {"b": "failed | no"}
    found = told(read(format, b"", exited(23), report=report))
    assert found == {"b": "failed | no", "sample": "failed | exit status 23"}


def test_a_time_that_is_no_number_of_seconds_is_none() -> None:
    report = b"<testsuite><testcase name='a' time='%s'/></testsuite>"
    for text, seconds in ((b"nan", 0.0), (b"inf", 0.0), (b"", 0.0), (b"1,000.5", 1000.5)):
        assert read("catch2", b"", report=report % text)["a"].seconds == seconds


def test_a_long_name_is_reported_once() -> None:
    name = "A." + "b" * 1000
    printed = f"[ RUN      ] {name}\n[       OK ] {name} (0 ms)\n".encode()
    report = f"<testsuite><testcase classname='A' name='{name[2:]}'/></testsuite>".encode()
    assert told(read("gtest", printed, report=report)) == {f"{name[:500]}...": "passed"}


PASSING = b"<testsuite><testcase classname='A' name='a'/></testsuite>"


def test_googletest_that_exits_with_0_early_did_not_pass() -> None:
    printed = b"""[==========] Running 10 tests from 1 test suite.
[ RUN      ] A.a
[       OK ] A.a (0 ms)
"""
    found = told(read("gtest", printed))
    assert found == {"A.a": "passed", "sample": "failed | 9 of 10 tests never ran"}
    hidden = printed + b"half a line[ RUN      ] A.b\n[       OK ] A.b (0 ms)\n"
    end = b"[==========] 10 tests from 1 test suite ran. (1 ms total)\n"
    assert told(read("gtest", hidden + end, report=PASSING)) == {"A.a": "passed"}


def test_googletest_without_times() -> None:
    printed = b"""[==========] Running 2 tests from 1 test suite.
[ RUN      ] A.a
[       OK ] A.a
[ RUN      ] A.b/0
a.cc:3: Failure
Value of: false
[  FAILED  ] A.b/0, where GetParam() = 2
[==========] 2 tests from 1 test suite ran.
"""
    assert told(read("gtest", printed, FAILED)) == {
        "A.a": "passed",
        "A.b/0": "failed | Value of: false (a.cc:3)",
    }


def test_a_failure_that_is_not_in_the_report_of_the_last_repetition() -> None:
    start = b"[==========] Running 1 test from 1 test suite.\n[ RUN      ] A.a\n"
    end = b"[==========] 1 test from 1 test suite ran. (0 ms total)\n"
    bad = b"a.cc:3: Failure\nValue of: false\n[  FAILED  ] A.a (0 ms)\n"
    good = b"[       OK ] A.a (0 ms)\n"
    printed = start + bad + end + start + good + end
    assert told(read("gtest", printed, FAILED, report=PASSING)) == {
        "A.a": "passed",
        "A.a#01": "failed | Value of: false (a.cc:3)",
    }


@pytest.mark.runners
def test_googletest(tmp_path: Path) -> None:
    binary = tmp_path / "sample"
    words = ["-lgtest", "-lgtest_main", "-lpthread"]
    subprocess.run(["g++", "-o", binary, SOURCES / "gtest.cc", *words], check=True)
    subprocess.run(["strip", binary], check=True)
    assert executable(binary, "x86_64", FolderRoot(Path("/"))).format == "gtest"
    found = told(run_with_report("gtest", [binary], tmp_path))
    where = SOURCES / "gtest.cc"
    assert found == {
        "Maps.Passes": "passed",
        "Maps.Fails": (
            f"failed | Expected equality of these values: 1; 2; the number of maps ({where}:10)"
        ),
        "Maps.Skipped": f"skipped | needs 5.17 ({where}:14)",
        "Maps.DISABLED_Later": "skipped | disabled",
        "Some/Odd.Is/0": "passed",
        "Some/Odd.Is/1": (
            "failed | Expected equality of these values: GetParam() % 2; Which is: 0; 1; line one; "
            f"line two ({where}:19)"
        ),
        "Dies.Here": "passed",
        "Dies.Later": "passed",
    }
    found = told(run_with_report("gtest", [binary], tmp_path, {"DIE": "1"}))
    assert found["Dies.Here"] == "failed | exit status 134; it wrote no report"
    assert found["sample"] == "failed | 3 of 7 tests never ran"
    assert found["Maps.Passes"] == "passed"


@pytest.mark.runners
def test_catch2(tmp_path: Path) -> None:
    binary = tmp_path / "sample"
    subprocess.run(["g++", "-o", binary, SOURCES / "catch2.cc"], check=True)
    subprocess.run(["strip", binary], check=True)
    assert executable(binary, "x86_64", FolderRoot(Path("/"))).format == "catch2"
    where = SOURCES / "catch2.cc"
    alive = {
        "pass": "passed",
        "fail/one": f"failed | CHECK( 1 == 2 ) ({where}:11)",
        "fail/two": f"failed | REQUIRE_THROWS( 1 ); about it ({where}:14)",
        "fail/three": "passed",
        "throw": f"failed | no such map ({where}:19)",
        "may fail": (
            f"failed | CHECK( false ) ({where}:21) | it is tagged with !mayfail or !shouldfail"
        ),
        "lines": f"failed | two; lines ({where}:23)",
    }
    assert told(run_with_report("catch2", [binary], tmp_path)) == alive
    found = told(run_with_report("catch2", [binary], tmp_path, {"DIE": "1"}))
    assert found == alive | {
        "dies": f"failed | SIGSEGV - Segmentation violation signal ({where}:25)",
        "sample": "failed | exit status 139",
    }


WORDS = st.sampled_from(
    [
        *PRINTED.splitlines(keepends=True),
        b"running 3 tests\n",
        b"test a ... ok\n",
        b"test b ... FAILED\n",
        b"test c ... \n",
        b"---- b stdout ----\n",
        b"thread 'b' panicked at x.rs:1:2:\n",
        b"failures:\n",
        b"    Starting 2 tests across 1 binary\n",
        b"        PASS [   0.059s] (1/7) demo tests::dies\n",
        b"        FAIL [   0.059s] (2/7) demo tests::fails\n",
        b"  stdout \xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\n",
        b"t.py::test_a PASSED [ 50%]\n",
        b"t.py::test_b XFAIL (why) [ 50%]\n",
        b"t.py::test_b ",
        b"Traceback (most recent call last):\n",
        b"ValueError: x\n",
        b"1..2\n",
        b"ok 1\n",
    ]
)


@given(
    st.sampled_from([format for format in FORMATS if format != "go"]),
    st.lists(WORDS | st.binary(max_size=20)),
    st.none() | st.binary(max_size=100),
    st.integers(1, 50),
    st.booleans(),
)
def test_any_output_is_read_and_never_makes_a_failure_pass(
    format: Format, words: list[bytes], report: bytes | None, chunk_bytes: int, failed: bool
) -> None:
    output, end = b"".join(words), FAILED if failed else PASSED
    found = told(read(format, output, end, chunk_bytes=chunk_bytes, report=report))
    assert found == told(read(format, output, end, chunk_bytes=1 << 20, report=report))
    assert found
    if failed:
        assert any(said.startswith("failed") for said in found.values())
    assert not any("\n" in said for said in found.values())

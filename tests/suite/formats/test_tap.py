"""TAP in its versions, of the kernel's own tests, and of bats."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.payload.model import Executable, Format
from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats import End, base, reader, tap
from tests.suite.formats.reading import FAILED, PASSED, TIMEOUT, read, run, told

KINDS = b"""TAP version 13
1..4
ok 1 alpha
not ok 2 beta
# reason x
ok 3 gamma # SKIP no hw
not ok 4 delta # TODO
"""

SUBTESTS = b"""TAP version 14
# Subtest: outer
    1..2
    ok 1 - a
    not ok 2 - b
      ---
      message: "it is wrong"
      got: 1
      expected: 2
      ...
not ok 1 - outer
ok 2 - plain # time=12.5ms
    # Subtest: in todo
    1..1
    not ok 1 - c
not ok 3 - in todo # TODO later
    ok 1 - deep
        ok 1 - deeper
        1..1
    ok 2 - two
    1..2
ok 4 - last
1..4
"""

KSELFTESTS = b"""TAP version 13
1..4
# overall_timeout=0
# selftests: size: get_size
# TAP version 13
# # Testing system size.
# 1..1
# ok 1 get_size
# # Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0
ok 1 selftests: size: get_size
# timeout set to 45
# selftests: seccomp: seccomp_bpf
# TAP version 13
# 1..4
# # Starting 4 tests from 2 test cases.
# #  RUN           global.kcmp ...
# #            OK  global.kcmp
# ok 1 global.kcmp
# #  RUN           global.mode ...
# # seccomp_bpf.c:12:mode:Expected 1 (1) == 2 (2)
# # mode: Test failed
# #          FAIL  global.mode
# not ok 2 global.mode
# #  RUN           global.skip ...
# #      SKIP      not here
# ok 3 global.skip # SKIP not here
# ok 4 # XFAIL known to fail
# # FAILED: 2 / 3 tests passed.
not ok 2 selftests: seccomp: seccomp_bpf # exit=1
# selftests: x: noroot.sh
# SKIP: Need root privileges
ok 3 selftests: x: noroot.sh # SKIP
# selftests: x: dies
# TAP version 13
# 1..2
# ok 1 one
# Segmentation fault
not ok 4 selftests: x: dies # exit=139
"""

BATS = """@test "one plus one" {
    [ $((1+1)) -eq 2 ]
}
@test "fails" {
    echo hello
    [ 1 -eq 2 ]
}
@test "skipped" {
    skip "no hw"
}
"""


@pytest.mark.parametrize("chunk_bytes", [1, 7, 1 << 20])
def test_each_point_is_a_result_and_not_ok_fails_with_exit_status_0(chunk_bytes: int) -> None:
    found = read("tap", KINDS, chunk_bytes=chunk_bytes)
    assert told(found) == {
        "alpha": "passed",
        "beta": "failed | reason x",
        "gamma": "skipped | no hw",
        "delta": "failed | not ok | TODO",
    }
    assert found["beta"].output == "not ok 2 beta\n# reason x\n"


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_subtests_have_the_names_of_their_tests(chunk_bytes: int) -> None:
    found = read("tap", SUBTESTS, FAILED, chunk_bytes=chunk_bytes)
    assert told(found) == {
        "outer/a": "passed",
        "outer/b": "failed | it is wrong: got 1, wanted 2",
        "plain": "passed",
        "in todo/c": "failed | not ok | TODO: later",
        "in todo": "failed | not ok | TODO: later",
        "last/deep": "passed",
        "last/two/deeper": "passed",
    }
    assert found["plain"].seconds == 0.0125


@pytest.mark.parametrize(
    ("output", "end", "said"),
    [
        (b"1..4\nok 1\nok 3\n", PASSED, "failed | 2 of 4 tests never ran: 2, 4"),
        (b"1..9\nok 1\nok 2\n", FAILED, "failed | exit status 1; 7 of 9 tests never ran: 3-9"),
        (b"1..1\nok 1\nok 2\n", PASSED, "failed | the plan has 1 tests, and 2 ran"),
        (b"1..2\nok 1\nok 1\n", PASSED, "failed | 1 of 2 tests never ran: 2"),
        (b"1..2\nok 1\nBail out! no disk\n", PASSED, "failed | bailed out: no disk; 1 of 2 tests"),
        (b"ok 1\n", PASSED, "failed | the output has no plan"),
        (b"", PASSED, "failed | the output has no plan"),
        (b"1..1\nok 1\n", FAILED, "failed | exit status 1"),
        (b"1..1\nok 1\n", TIMEOUT, "timeout | ran into its limit"),
        (b"1..1\nnot ok 1 # TODO x\n", FAILED, "failed | exit status 1"),
        (b"1..0 # SKIP no bpf here\n", PASSED, "skipped | no bpf here"),
        (b"1..0\n", PASSED, "skipped | the plan has no tests"),
        (b"1..1\nok 1\n", End(Outcome.FAILED, "an oops", 0, oops=True), "failed | an oops"),
    ],
)
def test_what_is_wrong_with_the_whole(output: bytes, end: End, said: str) -> None:
    assert told(read("tap", output, end))["sample"].startswith(said)


def test_no_printed_word_makes_a_failure_pass() -> None:
    found = read("tap", b"1..1\nok 1 all is well\n", End(Outcome.FAILED, "killed by SIGSEGV", 139))
    assert told(found)["sample"] == "failed | killed by SIGSEGV"


@pytest.mark.parametrize(
    ("comments", "reason"),
    [
        ("#   Failed test 'beta'\n#   at t.pl line 3.\n", "Failed test 'beta'; at t.pl line 3."),
        (
            "#   Failed test 'b'\n#   at t.pl line 3.\n#     got: '1'\n#     expected: '2'\n",
            "got: '1'; expected: '2'",
        ),
        ("  ---\n  message: 'a\n    b'\n  ...\n", "a b"),
        ("  ---\n  - not\n  - a mapping\n  ...\n", "not ok"),
        ("  ---\n  message: [}\n  ...\n", "not ok"),
        ("  ---\n  message: &a [*a]\n  ...\n", "not ok"),
        ("  ---\n  message: no end\n", "no end"),
        ("  ---\n  message: !!bool maybe\n  ...\n", "maybe"),
        ("  ---\n  message: !<tag:x> of its own\n  ...\n", "of its own"),
        ("  ---\n  message: ~\n  got: null\n  expected: 1.50\n  ...\n", "got null, wanted 1.50"),
    ],
)
def test_the_reason_is_what_a_failed_point_is_followed_by(comments: str, reason: str) -> None:
    found = read("tap", f"1..1\nnot ok 1 beta\n{comments}".encode())
    assert found["beta"].reason == reason


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_the_block_of_a_point_that_is_ok_has_no_points(chunk_bytes: int) -> None:
    output = b"""1..2
ok 1 - a
  ---
  output: |
    1..9
    not ok 1 - printed
    not ok 2 - printed
  ...
ok 2 - b
  ---
  message: the block has no end
"""
    assert told(read("tap", output, chunk_bytes=chunk_bytes)) == {"a": "passed", "b": "passed"}


def test_a_block_without_an_end_hides_no_point() -> None:
    output = b"1..3\nok 1 a\n  ---\n  x: y\nnot ok 2 b\n  ---\n  message: why\nok 3 c\n"
    assert told(read("tap", output)) == {"a": "passed", "b": "failed | why", "c": "passed"}


BELOW = b"""# Subtest: outer
    # Subtest: inner
        # Subtest: innermost
            not ok 1 - x
            1..1
        not ok 1 - innermost
        1..1
    not ok 1 - inner
    1..1
not ok 1 - outer
1..1
"""
BESIDE = b"""    # Subtest: outer
        # Subtest: inner
            # Subtest: innermost
            not ok 1 - x
            1..1
        not ok 1 - innermost
        1..1
    not ok 1 - inner
    1..1
not ok 1 - outer
1..1
"""


@pytest.mark.parametrize("output", [BELOW, BESIDE])
def test_subtests_whose_first_line_is_an_announcement(output: bytes) -> None:
    assert told(read("tap", output)) == {"outer/inner/innermost/x": "failed | not ok"}
    cut = output[: output.index(b"            not ok")]
    assert told(read("tap", cut, TIMEOUT))["outer/inner/innermost"] == (
        "timeout | ran into its limit"
    )


@pytest.mark.parametrize("format", ["tap", "auto"])
def test_the_first_test_lasts_from_the_start_of_the_executable(
    monkeypatch: pytest.MonkeyPatch, format: Format
) -> None:
    clock = SimpleNamespace(now=100.0)
    for module in (base, tap):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    found: list[TestResult] = []

    async def feed() -> None:
        it = reader(Executable(Path("/x/sample"), format), ("/x/sample",), found.append)
        for moment, data in ((103.0, b""), (105.0, b"1..2\n"), (106.0, b"ok 1 a\n")):
            clock.now = moment
            await (it.feed(data) if data else it.start())
        clock.now = 110.0
        await it.close(PASSED)

    asyncio.run(feed())
    assert [(one.name, one.seconds) for one in found] == [("a", 3.0), ("sample", 7.0)]


def test_the_tests_of_the_kernel_are_nested_in_comments() -> None:
    found = read("kselftest", KSELFTESTS, FAILED)
    assert told(found) == {
        "size: get_size/get_size": "passed",
        "seccomp: seccomp_bpf/global.kcmp": "passed",
        "seccomp: seccomp_bpf/global.mode": "failed | Expected 1 (1) == 2 (2) (seccomp_bpf.c:12)",
        "seccomp: seccomp_bpf/global.skip": "skipped | not here",
        "seccomp: seccomp_bpf/test 4": "failed | failed | XFAIL: known to fail",
        "x: noroot.sh": "skipped | Need root privileges",
        "x: dies/one": "passed",
        "x: dies": "failed | 1 of 2 tests never ran: 2; Segmentation fault; exit status 139",
    }


def test_a_limit_names_the_program_of_the_selftests_that_ran() -> None:
    cut = KSELFTESTS[: KSELFTESTS.index(b"# #            OK  global.kcmp")]
    found = told(read("kselftest", cut, TIMEOUT))
    assert found["seccomp: seccomp_bpf"] == "timeout | ran into its limit"
    assert found["sample"] == "timeout | 3 of 4 tests never ran: 2-4"


@pytest.mark.parametrize(
    ("format", "status", "said"),
    [
        ("kselftest", 4, "skipped | needs root"),
        ("kselftest", 77, "failed | exit status 77"),
        ("automake", 77, "skipped | needs root"),
        ("automake", 99, "failed | a hard error (exit status 99)"),
        ("automake", 4, "failed | exit status 4"),
        ("plain", 4, "failed | exit status 4"),
        ("plain", 77, "failed | exit status 77"),
    ],
)
def test_an_exit_status_means_a_skip_where_it_is_the_formats(
    format: Format, status: int, said: str
) -> None:
    output, end = run(["sh", "-c", f"echo 'SKIP: needs root'; exit {status}"])
    assert told(read(format, output, end)) == {"sample": said}


@pytest.mark.runners
def test_bats_prints_tap(tmp_path: Path) -> None:
    (tmp_path / "t.bats").write_text(BATS)
    output, end = run(["bats", "--tap", "t.bats"], tmp_path)
    assert told(read("bats", output, end)) == {
        "one plus one": "passed",
        "fails": "failed | `[ 1 -eq 2 ]' failed (t.bats:6)",
        "skipped": "skipped | no hw",
    }


LINES = st.sampled_from(
    [
        *KINDS.splitlines(keepends=True),
        *SUBTESTS.splitlines(keepends=True),
        *KSELFTESTS.splitlines(keepends=True),
        b"Bail out!\n",
        b"ok 999999999\n",
        b"1..999999999\n",
        b"# # # # ok 1\n",
        b"                ok 1\n",
        b"\xff\n",
        b"\r\n",
    ]
)


@given(st.lists(LINES | st.binary(max_size=20)), st.integers(1, 50), st.booleans())
def test_any_output_is_read_and_chunks_make_no_difference(
    lines: list[bytes], chunk_bytes: int, failed: bool
) -> None:
    output, end = b"".join(lines), FAILED if failed else PASSED
    formats: tuple[Format, ...] = ("tap", "kselftest", "bats")
    for format in formats:
        found = told(read(format, output, end, chunk_bytes=chunk_bytes))
        assert found == told(read(format, output, end, chunk_bytes=1 << 20))
        if failed:
            assert any(
                said.startswith("failed") and not said.endswith("TODO") for said in found.values()
            )

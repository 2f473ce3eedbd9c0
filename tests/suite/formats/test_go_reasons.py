"""Why Go tests fail, read from real test binaries that use testify, quicktest and go-cmp."""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.formats import End
from bpfmatrix.suite.formats.go_binary import chosen_tests, declared_tests
from bpfmatrix.suite.formats.go_reasons import failure_reason
from bpfmatrix.suite.formats.go_stacks import data_race, death
from tests.suite.formats.reading import PANIC, PASSED, read, run, told

SOURCE = Path(__file__).with_name("reasons")
TESTS = [
    "TestTestifyError",
    "TestTestifyEqual",
    "TestTestifyStruct",
    "TestQuicktest",
    "TestQuicktestError",
    "TestQuicktestDiff",
    "TestCmp",
    "TestFatalLines",
    "TestLogBehind",
    "TestNoMessage",
    "TestSkip",
    "TestRace",
    "TestNil",
    "TestPanicLines",
    "TestPanicInLibrary",
    "TestDeadlock",
    "TestMapWrites",
    "TestHang",
    "TestZLast",
]
NOT_NOW = "skipped | not now"


class Reasons:
    """The module with the failing tests, copied and built."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(SOURCE, root)

    @functools.cache  # noqa: B019 - a run of pytest has one module
    def binary(self, *flags: str) -> Path:
        """Return the test binary, built with these flags."""
        path = self.root / f"reasons{len(flags)}.test"
        env = {**os.environ, "CGO_ENABLED": "1" if "-race" in flags else "0", "GOFLAGS": ""}
        subprocess.run(
            ["go", "test", "-c", *flags, "-o", path, "."], cwd=self.root, env=env, check=True
        )
        return path

    def told(
        self,
        pattern: str,
        *words: str,
        only: str = "",
        flags: tuple[str, ...] = (),
        folder: bool = True,
        end: End | None = None,
    ) -> dict[str, str]:
        """Run the tests that a pattern chooses; return the outcomes and reasons."""
        path = self.binary(*flags)
        arguments = ["-test.v=test2json", f"-test.run={pattern}", *words]
        output, ended = run([path, *arguments], self.root, {"ONLY": only})
        where = self.root if folder else None
        return told(read("go", output, end or ended, path=path, arguments=arguments, folder=where))


@pytest.fixture(scope="module")
def reasons(tmp_path_factory: pytest.TempPathFactory) -> Reasons:
    return Reasons(tmp_path_factory.mktemp("go") / "reasons")


def test_the_reason_is_the_assertion_and_no_log(reasons: Reasons) -> None:
    found = reasons.told("Test[TQCFLNS]", "-test.skip=TestNil")
    assert found == {
        "TestTestifyError": "failed | Received unexpected error: load program: permission denied",
        "TestTestifyEqual": "failed | the number of maps: Not equal: expected: 1; actual: 2",
        "TestTestifyStruct": (
            'failed | Not equal: expected: reasons.program{Name:"a", Maps:[]string(nil)}; '
            'actual: reasons.program{Name:"b", Maps:[]string(nil)}'
        ),
        "TestQuicktest": "failed | of all programs: values are not equal: got int(0), want int(1)",
        "TestQuicktestError": 'failed | got non-nil error: got e"no such map"',
        "TestQuicktestDiff": (
            'failed | values are not deep equal: diff (-got +want) - Name: "a", + Name: "b",'
        ),
        "TestCmp": 'failed | program mismatch (-want +got): - "y", + "z",',
        "TestFatalLines": "failed | load: permission denied: 0: R1=ctx; R1 is no scalar",
        "TestLogBehind": "failed | the first assertion",
        "TestNoMessage": "failed | no message; it last printed: printed",
        "TestSkip": "skipped | needs 5.17",
    }


def test_without_the_source_the_forms_of_libraries_are_known(reasons: Reasons) -> None:
    found = reasons.told("TestTestifyEqual|TestQuicktestDiff|TestFatalLines", folder=False)
    assert found["TestTestifyEqual"].endswith("Not equal: expected: 1; actual: 2")
    assert 'Name: "a"' in found["TestQuicktestDiff"]
    assert "permission denied" in found["TestFatalLines"]


@pytest.mark.parametrize(
    ("test", "reason", "never"),
    [
        (
            "TestNil",
            "panic: runtime error: invalid memory address or nil pointer dereference "
            "(reasons_test.go:109)",
            "4 tests never ran: TestPanicLines, TestPanicInLibrary, TestDeadlock, TestZLast",
        ),
        (
            "TestPanicLines",
            "panic: first line; second line (reasons_test.go:114)",
            "3 tests never ran: TestPanicInLibrary, TestDeadlock, TestZLast",
        ),
        (
            "TestPanicInLibrary",
            "panic: cannot handle unexported field at root.a",
            "2 tests never ran: TestDeadlock, TestZLast",
        ),
        (
            "TestDeadlock",
            "fatal error: all goroutines are asleep - deadlock! (reasons_test.go:124)",
            "1 test never ran: TestZLast",
        ),
    ],
)
def test_a_binary_that_died_says_of_what_and_where_and_what_never_ran(
    reasons: Reasons, test: str, reason: str, never: str
) -> None:
    for flags in ((), ("-trimpath", "-ldflags=-s -w")):
        found = reasons.told("TestNil|TestPanic|TestDeadlock|TestZLast", only=test, flags=flags)
        assert found.pop(test).startswith(f"failed | {reason}")
        assert found.pop(f"reasons{len(flags)}") == f"failed | {never}"
        assert set(found.values()) <= {NOT_NOW}


def test_the_place_in_a_library_is_that_of_its_caller(reasons: Reasons) -> None:
    found = reasons.told("TestPanicInLibrary", only="TestPanicInLibrary")
    assert found["TestPanicInLibrary"].endswith("(reasons_test.go:119)")


def test_concurrent_writes_of_a_map(reasons: Reasons) -> None:
    found = reasons.told("TestMapWrites", only="TestMapWrites")
    assert found["TestMapWrites"].startswith("failed | fatal error: concurrent map ")
    assert "(reasons_test.go:133)" in found["TestMapWrites"]


def test_a_time_limit_of_go_names_the_test_and_its_line(reasons: Reasons) -> None:
    found = reasons.told("TestHang|TestZLast", "-test.timeout=1s", only="TestHang")
    why = "failed | panic: test timed out after 1s (reasons_test.go:144)"
    assert found == {
        "TestHang/inner": why,
        "TestHang": why,
        "reasons0": "failed | 1 test never ran: TestZLast",
    }


def test_a_limit_of_ours_names_the_line_by_the_stacks_of_sigquit(reasons: Reasons) -> None:
    path = reasons.binary()
    arguments = ["-test.v=test2json", "-test.run=TestHang|TestZLast"]
    with subprocess.Popen(
        [path, *arguments],
        env={**os.environ, "ONLY": "TestHang"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        output = b""
        while b"it hangs now" not in output:
            output += process.stdout.readline()
        process.send_signal(3)
        output += process.stdout.read()
    end = End(Outcome.TIMEOUT, "ran into its limit of 2 s", 131)
    found = read("go", output, end, path=path, arguments=arguments, folder=reasons.root)
    said = told(found)
    assert said.pop("reasons0") == "timeout | 1 test never ran: TestZLast"
    assert set(said) == {"TestHang/inner", "TestHang"}
    for why in said.values():  # it prints, or it sleeps in the next line
        assert re.fullmatch(
            r"timeout \| ran into its limit of 2 s, in reasons_test\.go:14[34]", why
        )


def test_a_data_race_names_both_sides(reasons: Reasons) -> None:
    found = reasons.told("TestRace|TestZLast", flags=("-race",))
    assert found.pop("TestZLast") == "passed"
    [said] = found.values()
    assert said.startswith("failed | data race: ")
    assert said.count("reasons_test.go:90") == 2


def test_the_tests_of_a_machine_that_ended_are_named_too(reasons: Reasons) -> None:
    found = reasons.told("TestLogBehind|TestZLast", "-test.skip=TestZLast", end=PANIC)
    assert found["reasons0"] == "panic | sysrq"


@pytest.mark.parametrize("flags", [(), ("-trimpath", "-ldflags=-s -w"), ("-race",)])
def test_the_tests_of_a_binary_are_read_off_it(reasons: Reasons, flags: tuple[str, ...]) -> None:
    assert declared_tests(reasons.binary(*flags)) == TESTS


def test_a_helper_with_the_name_of_a_test_is_none(reasons: Reasons) -> None:
    """It is in the binary, and in no file for tests."""
    binary = reasons.binary()
    assert b"TestSomething" in binary.read_bytes()
    assert "TestSomething" not in declared_tests(binary)


def test_what_is_no_go_test_has_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert declared_tests(tmp_path / "text") == []
    assert declared_tests(tmp_path / "missing") == []
    assert declared_tests(Path("/bin/true")) == []


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (["-test.v=test2json"], ["TestA", "TestAB", "TestB"]),
        (["-test.run=^TestA$"], ["TestA"]),
        (["-test.run", "TestA/sub|B$/x"], ["TestA", "TestAB", "TestB"]),
        (["--test.run=Test(A|B)$"], ["TestA", "TestB"]),
        (["-test.run=TestA", "-test.skip=AB"], ["TestA"]),
        (["-test.skip=TestA/sub"], ["TestA", "TestAB", "TestB"]),
        (["-test.run=[/|]"], []),
        (["-test.run=("], []),
    ],
)
def test_arguments_choose_tests_as_go_does(arguments: list[str], chosen: list[str]) -> None:
    assert chosen_tests(["TestA", "TestAB", "TestB"], arguments) == chosen


WORDS = st.sampled_from(
    [
        "panic: x\n",
        "fatal error: x\n",
        "SIGQUIT: quit\n",
        "goroutine 1 [running]:\n",
        "example.org/p.TestX(0x1)\n",
        "\t/x/p_test.go:12 +0x1\n",
        "created by p.f in goroutine 1\n",
        "WARNING: DATA RACE\n",
        "Read at 0x1 by goroutine 1:\n",
        "    x_test.go:1: \n",
        "        \tError:      \tx\n",
        "        error:\n",
        "        diff (-got +want):\n",
        "\n",
    ]
)


@given(st.lists(WORDS | st.text(max_size=20)))
def test_any_text_has_a_reason_of_one_line(words: list[str]) -> None:
    output = "".join(words)
    died = death(output)
    for reason in (
        failure_reason(output),
        data_race(output, None),
        died.reason(Path("/x"), "TestX") if died else "",
    ):
        assert "\n" not in reason
        assert len(reason) < 2000


def test_a_binary_that_passes_is_not_read(tmp_path: Path) -> None:
    assert read("go", b"", PASSED, path=tmp_path / "missing.test") == {}

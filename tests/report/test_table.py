"""The table of the terminal, as plain text."""

import io
import re
from collections.abc import Sequence

from hypothesis import given
from rich.console import Console
from rich.text import Text

from bpfmatrix.report import table
from bpfmatrix.report.kernel_table import kernel_table
from bpfmatrix.report.matrix import Matrix
from bpfmatrix.report.model import Result
from bpfmatrix.results.kernel_run import KernelRun, TestResult
from bpfmatrix.results.outcome import Outcome
from tests.report.samples import several


@given(several)
def test_a_table_shows_every_kernel(results: list[Result]) -> None:
    matrix = Matrix.of(results)
    text = table.to_text(matrix)
    assert "\x1b" not in text
    for column in matrix.columns:
        assert str(column.outcome) in text


def test_the_columns_of_one_release_are_told_apart() -> None:
    ids = ["6.1", "6.1-arm64", "6.1@user"]
    runs = [KernelRun(id, Outcome.PASSED, version="6.1.192") for id in ids]
    lines = [line.split() for line in table.to_text(Matrix.of(map(Result, runs))).splitlines()]
    assert lines[:2] == [["6.1-arm64", "6.1@user"], ["6.1.192", "(6.1.192)", "(6.1.192)"]]


IDS = (
    *("5.4", "5.10", "5.15", "6.1", "6.1@user", "6.1-arm64", "6.6", "6.6-arm64", "6.12"),
    *("6.12-arm64", "6.12-arm64-16k@user", "6.12-riscv64", "6.18", "7.1", "7.3", "7.3-arm64"),
    "7.3-debug",
)


def run_on(id: str) -> KernelRun:
    old = id.startswith("5.")
    long = "github.com/acme/agent/internal/connections"
    tests = (
        TestResult(long, "TestConnect", Outcome.FAILED if old else Outcome.PASSED),
        TestResult(long, "TestClose", Outcome.SKIPPED if id == "5.4" else Outcome.PASSED),
    )
    outcome = Outcome.FAILED if old else Outcome.PASSED
    series = re.match(r"\d+\.\d+", id)
    assert series
    return KernelRun(id, outcome, version=f"{series[0]}.7", seconds=4.5, tests=tests)


def text_of(width: int, *ids: str) -> str:
    return table.to_text(Matrix.of(Result(run_on(id)) for id in ids), width)


SEVENTEEN = """\
                               outcome   tests      time
5.4.7                          failed    ✗ 1  - 1   4.5 s
5.10.7                         failed    ✓ 1  ✗ 1   4.5 s
5.15.7                         failed    ✓ 1  ✗ 1   4.5 s
6.1.7                          passed    ✓ 2        4.5 s
6.1-arm64 (6.1.7)              passed    ✓ 2        4.5 s
6.1@user (6.1.7)               passed    ✓ 2        4.5 s
6.6.7                          passed    ✓ 2        4.5 s
6.6-arm64 (6.6.7)              passed    ✓ 2        4.5 s
6.12.7                         passed    ✓ 2        4.5 s
6.12-arm64 (6.12.7)            passed    ✓ 2        4.5 s
6.12-arm64-16k@user (6.12.7)   passed    ✓ 2        4.5 s
6.12-riscv64 (6.12.7)          passed    ✓ 2        4.5 s
6.18.7                         passed    ✓ 2        4.5 s
7.1.7                          passed    ✓ 2        4.5 s
7.3.7                          passed    ✓ 2        4.5 s
7.3-arm64 (7.3.7)              passed    ✓ 2        4.5 s
7.3-debug (7.3.7)              passed    ✓ 2        4.5 s

not passed everywhere
  github.com/acme/agent/internal/connections
    TestClose   - 5.4.7
    TestConnect   ✗ 5.4.7, 5.10.7, 5.15.7

✓ passed, ✗ failed, - skipped
17 kernels, 2 tests, not passed: 5.4.7, 5.10.7, 5.15.7
"""
TWO_LISTED = """\
          5.10.7     6.1.7
outcome   failed     passed
tests     ✓ 1  ✗ 1   ✓ 2
time      4.5 s      4.5 s

not passed everywhere
  github.com/acme/agent/internal/connections
    TestConnect   ✗ 5.10.7

✓ passed, ✗ failed
2 kernels, 2 tests, not passed: 5.10.7
"""
TWO = """\
                                                          5.10.7     6.1.7
outcome                                                   failed     passed
tests                                                     ✓ 1  ✗ 1   ✓ 2
time                                                      4.5 s      4.5 s
github.com/acme/agent/internal/connections  TestConnect   ✗          ✓
✓ passed, ✗ failed
2 kernels, 2 tests, not passed: 5.10.7
"""


def test_17_kernels_are_listed_one_below_the_other() -> None:
    assert text_of(60, *IDS) == SEVENTEEN
    assert text_of(80, *IDS) == SEVENTEEN


def test_kernels_are_columns_if_they_and_the_longest_name_fit() -> None:
    assert text_of(70, "5.10", "6.1") == TWO_LISTED
    assert text_of(80, "5.10", "6.1") == TWO


def test_no_name_is_cut_and_50_kernels_fit_a_pipe() -> None:
    ids = [f"6.{number}-arm64-16k@user" for number in range(50)]
    text = text_of(table.PIPE_WIDTH, *ids)
    assert max(map(len, text.splitlines())) <= table.PIPE_WIDTH
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert all(id in text for id in ids)


def test_the_matrix_of_a_run_fits_60_columns_with_17_kernels() -> None:
    def lines(ids: Sequence[str]) -> list[str]:
        facts = {
            name: [Text(word)] * len(ids) for name, word in (("tests", "✓ 2"), ("time", "1 s"))
        }
        console = Console(width=60, file=io.StringIO())
        with console.capture() as capture:
            console.print(kernel_table(ids, facts, console.width))
        return capture.get().splitlines()

    listed = lines(IDS)
    assert len(listed) == 18
    assert listed[1].split() == ["5.4", "✓", "2", "1", "s"]
    assert lines(IDS[:3])[0].split() == list(IDS[:3])

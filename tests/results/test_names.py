"""The text after `--run` that selects a test of a result."""

import pytest

from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.names import Labels, Selection
from bpfmatrix.results.outcome import Outcome

X, Y = "example.org/a/x", "example.org/b/x"
NAMES = (X, Y, "tap.sh", "plain")


def result(binary: str, name: str) -> TestResult:
    return TestResult(binary, name, Outcome.FAILED)


RESULTS = (
    *(result(X, "TestX/sub"), result(Y, "TestX"), result("tap.sh", "alpha")),
    *(result("plain", "plain"), result(X, "TestY")),
)


@pytest.mark.parametrize("test", RESULTS)
def test_what_a_failure_suggests_selects_its_test(test: TestResult) -> None:
    selection = Selection.of(Labels.of_results(RESULTS).selecting(test), NAMES)
    if test.binary == "plain":  # by a regular expression
        assert selection == Selection(frozenset(NAMES), "plain")
    elif test.binary == "tap.sh":  # its tests can't be chosen
        assert selection == Selection(frozenset(["tap.sh"]), None)
    else:
        assert selection == Selection(frozenset([test.binary]), test.name.split("/")[0])


def test_an_executable_alone_needs_no_package() -> None:
    assert Labels.of_results([result(X, "TestX")]).selecting(result(X, "TestX/sub")) == "TestX"

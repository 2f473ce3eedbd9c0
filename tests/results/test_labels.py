"""What tests are called for people, where executables that run several tests are not all known."""

import pytest

from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.names import Labels
from bpfmatrix.results.outcome import Outcome


def result(binary: str, name: str) -> TestResult:
    return TestResult(binary, name, Outcome.FAILED)


@pytest.mark.parametrize(
    ("names", "test", "label", "selecting"),
    [
        (["m/a"], result("m/a", "TestX/y"), "TestX/y", "TestX"),
        (["m/a", "m/b"], result("m/a", "TestX/y"), "a:TestX/y", "a:TestX"),
        (["m/a"], result("m/a", "m/a"), "a", "a:"),
        (["m/a"], result("tap.sh", "alpha/x"), "tap.sh:alpha/x", "tap.sh"),
        ([], result("tap.sh", "alpha"), "alpha", "tap.sh"),
        (["maps_test"], result("maps_test", "Maps.Full"), "Maps.Full", "maps_test:"),
        (["m/a"], result("plain.sh", "plain.sh"), "plain.sh", "plain.sh"),
    ],
)
def test_labels(names: list[str], test: TestResult, label: str, selecting: str) -> None:
    assert Labels(names).of(test) == label
    assert Labels(names).selecting(test) == selecting

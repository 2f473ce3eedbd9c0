from collections.abc import Sequence

import pytest

from bpfmatrix.errors import UsageError
from bpfmatrix.results.kernel_run import TestResult, verdict
from bpfmatrix.results.names import Labels, Selection, named
from bpfmatrix.results.outcome import Outcome

NAMES = ["example.org/m", "example.org/m/a/x", "example.org/m/b/x", "other.org/m", "check.sh"]


@pytest.mark.parametrize(
    ("package", "found"),
    [
        ("example.org/m/a/x", ["example.org/m/a/x"]),
        ("a/x", ["example.org/m/a/x"]),
        ("x", ["example.org/m/a/x", "example.org/m/b/x"]),
        ("m", ["example.org/m", "other.org/m"]),
        ("m/*", ["example.org/m/a/x", "example.org/m/b/x"]),
        ("check.sh", ["check.sh"]),
        ("org/m", []),
        ("/x", []),
    ],
)
def test_a_package_is_named_by_the_end_of_its_path(package: str, found: Sequence[str]) -> None:
    assert named(package, NAMES) == found


def test_a_whole_name_is_not_the_end_of_another_one() -> None:
    assert named("x", ["x", "a/x"]) == ["x"]


@pytest.mark.parametrize(
    ("run", "names", "pattern"),
    [
        (None, NAMES, None),
        ("TestX", NAMES, "TestX"),
        ("a/x:TestX", ["example.org/m/a/x"], "TestX"),
        ("a/x:", ["example.org/m/a/x"], None),
        ("m/*:^TestX$/sub", ["example.org/m/a/x", "example.org/m/b/x"], "^TestX$/sub"),
        # The names of subtests may have colons, and so may regular expressions.
        ("TestX/tcp:80", NAMES, "TestX/tcp:80"),
        ("^(?i:testx)$", NAMES, "^(?i:testx)$"),
        (".*/tcp:80", NAMES, ".*/tcp:80"),
        ("Test.*/tcp:80", NAMES, "Test.*/tcp:80"),
        ("maps::full", NAMES, "maps::full"),
    ],
)
def test_what_run_selects(run: str | None, names: Sequence[str], pattern: str | None) -> None:
    chosen = len(names) < len(NAMES)
    assert Selection.of(run, NAMES) == Selection(frozenset(names), pattern, chosen)


def test_an_unknown_package_is_a_usage_error_that_names_all() -> None:
    with pytest.raises(UsageError, match=r"--run c/x:TestX: no package is called 'c/x'") as caught:
        Selection.of("c/x:TestX", NAMES)
    assert all(name in str(caught.value) for name in NAMES)


def result(binary: str, name: str, outcome: Outcome = Outcome.PASSED) -> TestResult:
    return TestResult(binary, name, outcome, reason="why")


def test_tests_of_several_packages_are_told_apart() -> None:
    labels = Labels(NAMES[:4])
    test = result("example.org/m/a/x", "TestX/sub")
    assert labels.of(test) == "a/x:TestX/sub"
    assert labels.selecting(test) == "a/x:TestX"
    assert labels.of(result("example.org/m", "TestX")) == "example.org/m:TestX"
    # A whole executable: a package whose process failed, or a script.
    assert labels.of(result("example.org/m/b/x", "example.org/m/b/x")) == "b/x"
    assert labels.selecting(result("example.org/m/b/x", "example.org/m/b/x")) == "b/x:"
    assert labels.of(result("check.sh", "check.sh")) == "check.sh"
    assert labels.selecting(result("check.sh", "check.sh")) == "check.sh"


def test_the_tests_of_a_single_package_have_their_own_names() -> None:
    labels = Labels(["example.org/m"])
    assert labels.of(result("example.org/m", "TestX/sub")) == "TestX/sub"
    assert labels.selecting(result("example.org/m", "TestX/sub")) == "TestX"
    assert labels.selecting(result("example.org/m", "example.org/m")) == "m:"


def test_what_is_suggested_selects_the_test() -> None:
    names = [*NAMES, "check maps.sh"]
    labels = Labels(names)
    for name in names:
        for test in ("TestX", "maps::full"):
            assert Selection.of(labels.selecting(result(name, test)), names).names == {name}


def test_a_verdict_names_the_package_if_there_are_several() -> None:
    tests = [result("m/a", "TestX"), result("m/b", "TestX", Outcome.FAILED)]
    assert verdict(tests) == (Outcome.FAILED, "b:TestX: why")
    assert verdict(tests[1:]) == (Outcome.FAILED, "TestX: why")


@pytest.mark.parametrize("name", ["Tests::full", "TestMaps.Full", "Test maps", "Examples of it/a"])
def test_a_name_that_begins_as_those_of_go_is_none(name: str) -> None:
    labels = Labels(["TestMaps", "example.org/m"])
    assert labels.selecting(result("TestMaps", name)) == "TestMaps:"
    names = ["TestMaps", "example.org/m"]
    assert Selection.of("TestMaps:", names) == Selection(frozenset(names[:1]), None, chosen=True)


def test_a_test_that_can_not_be_chosen_is_run_with_its_executable() -> None:
    labels = Labels(["check.sh", "example.org/m"])
    assert labels.of(result("check.sh", "alpha")) == "check.sh:alpha"
    suggested = labels.selecting(result("check.sh", "alpha"))
    assert Selection.of(suggested, NAMES) == Selection(frozenset(["check.sh"]), None, chosen=True)

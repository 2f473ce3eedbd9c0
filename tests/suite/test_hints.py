"""Hints to what may be behind a failure."""

import resource

import pytest

from bpfmatrix.results.kernel_run import TestResult
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.suite.hints import memlock_hint
from bpfmatrix.vm.protocol import UNLIMITED_MEMLOCK, Start

REFUSED = TestResult("a", "TestA", Outcome.FAILED, 0, "map create: operation not permitted")


@pytest.mark.parametrize(
    "start", [Start(), Start(limits=((resource.RLIMIT_MEMLOCK, 65536),)), Start(limits=((7, -1),))]
)
def test_a_limit_of_locked_memory_is_suspected_before_5_11(start: Start) -> None:
    hint = memlock_hint("5.10.262", [(REFUSED, start), (REFUSED, start)])
    assert hint.startswith("TestA and 1 more: before Linux 5.11, ")
    assert "rlimit.RemoveMemlock" in hint
    assert "`memlock: unlimited`" in hint


@pytest.mark.parametrize(
    ("version", "test", "start"),
    [
        ("5.11.1", REFUSED, Start()),
        ("6.1.192", REFUSED, Start()),
        ("", REFUSED, Start()),
        ("5.10.262", REFUSED, Start(limits=UNLIMITED_MEMLOCK)),
        ("5.10.262", TestResult("a", "TestA", Outcome.PASSED, 0, "", "EPERM"), Start()),
        ("5.10.262", TestResult("a", "TestA", Outcome.FAILED, 0, "no such map"), Start()),
    ],
)
def test_no_other_failure_has_the_hint(version: str, test: TestResult, start: Start) -> None:
    assert memlock_hint(version, [(test, start)]) == ""

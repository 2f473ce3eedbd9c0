"""What doctor says of kernels that are not cached: whether their sources answer."""

import threading

import pytest

from bpfmatrix.cli.doctor import Check, asked, print_checks
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError


def test_all_are_asked_at_the_same_time_and_each_has_its_answer() -> None:
    together = threading.Barrier(3, timeout=30)

    def answers() -> None:
        together.wait()

    def refuses() -> None:
        together.wait()
        raise KernelUnavailableError("no such suite", "Name another.")

    def breaks() -> None:
        together.wait()
        raise PermissionError(13, "Permission denied")

    found = asked({"a": answers, "b": refuses, "c": breaks}, limit_seconds=60)
    assert found["a"] is None
    assert isinstance(found["b"], KernelUnavailableError)
    assert isinstance(found["c"], BpfmatrixError)
    assert "Permission denied" in found["c"].what


def test_who_does_not_answer_in_time_is_unreachable() -> None:
    never = threading.Event()
    try:
        found = asked({"a": lambda: None, "b": lambda: (never.wait(), None)[1]}, limit_seconds=0.5)
    finally:
        never.set()
    assert isinstance(found["b"], UnreachableError)
    assert found["b"].what == "its source did not answer within 0.5 s"


def test_ready_or_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    cached = Check("kernel 6.1", "cached, 6.1.192")
    assert print_checks([Check("make", "4.3"), cached])
    assert capsys.readouterr().out.endswith("\n\nready, also without a network\n")
    assert print_checks([cached, Check("kernel 7.3", "not fetched yet, apt x answers")])
    assert capsys.readouterr().out.endswith("\n\nready\n")
    missing = [Check(f"kernel {id}", "not fetched yet: x", False, "Name it.") for id in "ab"]
    assert not print_checks([cached, *missing])
    assert capsys.readouterr().out.endswith("\n\nkernel a, kernel b: Name it.\n")

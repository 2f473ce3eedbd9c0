"""Tests that end in each way in which those of pytest end."""

import os
import signal
from collections.abc import Iterator

import pytest


class TestMaps:
    def test_passes(self) -> None:
        pass

    def test_fails(self) -> None:
        print("printed")
        got = {"a": 1}
        assert got == {"a": 2}, "of maps"


@pytest.mark.parametrize("n", [1, 2])
def test_odd(n: int) -> None:
    assert n % 2


@pytest.mark.skip(reason="needs 5.17")
def test_skipped() -> None:
    pass


@pytest.mark.xfail(reason="known bug")
def test_xfail() -> None:
    raise AssertionError


@pytest.mark.xfail(reason="known bug", strict=True)
def test_xpass() -> None:
    pass


@pytest.fixture
def broken() -> None:
    raise RuntimeError("no disk")


def test_error(broken: None) -> None:
    pass


@pytest.fixture
def bad_end() -> Iterator[None]:
    yield
    raise RuntimeError("at the end")


def test_teardown(bad_end: None) -> None:
    pass


def test_dies() -> None:
    if os.environ.get("DIE"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_raises() -> None:
    raise OSError(1, "not permitted")

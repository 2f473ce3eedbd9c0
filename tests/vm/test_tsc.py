"""The frequency of the TSC: what samples show, and when it is measured."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpfmatrix.host import records
from bpfmatrix.host.architecture import X86_64
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.tools import require
from bpfmatrix.vm import tsc
from tests.damage import DAMAGES


@pytest.fixture(autouse=True)
def constant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every host counts as one whose processor has a constant rate."""
    monkeypatch.setattr(tsc, "_is_constant", lambda: True)


@pytest.fixture
def qemu() -> str:
    return str(require(X86_64.qemu, X86_64.qemu_package))


def sample(microseconds: int, khz: int, disturbed: int) -> tuple[int, int, int]:
    """Return what a guest reads at a time; `disturbed` is how long it stands still meanwhile."""
    cycles = microseconds * khz // 1000
    timer = microseconds * 3_579_545 // 1_000_000 & 0xFFFFFF
    return cycles, timer, cycles + 500 + disturbed


@given(
    khz=st.integers(500_000, 6_000_000),
    start=st.integers(0, 1 << 40),
    disturbed=st.lists(st.integers(0, 10_000_000), min_size=9, max_size=90),
)
def test_disturbed_samples_do_not_count(khz: int, start: int, disturbed: list[int]) -> None:
    third = len(disturbed) // 3
    disturbed[0] = disturbed[-1] = 0  # one of the first and one of the last third are not
    samples = [
        sample(start + number * 300_000 // len(disturbed), khz, stall)
        for number, stall in enumerate(disturbed)
    ]
    assert third
    assert tsc._khz_of(samples) == pytest.approx(khz, rel=1e-3)


@pytest.mark.parametrize("samples", [[], [sample(0, 1000, 0)] * 2, [sample(0, 1000, 0)] * 9])
def test_no_time_between_samples_gives_no_frequency(samples: list[tuple[int, int, int]]) -> None:
    assert tsc._khz_of(samples) == 0


def test_qemu_that_does_not_run_gives_no_frequency() -> None:
    assert tsc.measure_khz("/usr/bin/false") == 0
    assert tsc.measure_khz("/does/not/exist") == 0


def test_two_measurements_agree(qemu: str) -> None:
    first, second = tsc.measure_khz(qemu), tsc.measure_khz(qemu)
    assert first > 100_000
    assert second == pytest.approx(first, rel=1e-3)


def test_the_frequency_is_kept_until_the_host_is_booted(cache: Cache, qemu: str) -> None:
    record = cache.root / "tsc-probe.json"
    found = tsc.frequency_khz(qemu, cache)
    known = records.read(record)
    assert known is not None
    records.write(record, {**known, "khz": 12345})
    assert tsc.frequency_khz(qemu, cache) == 12345
    # After a boot, a measurement that hardly differs keeps the frequency, and with it templates.
    records.write(record, {"key": "another boot", "khz": found + 1})
    assert tsc.frequency_khz(qemu, cache) == found + 1
    records.write(record, {"key": "another boot", "khz": 12345})
    assert tsc.frequency_khz(qemu, cache) == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("harm", DAMAGES)
def test_a_damaged_record_is_made_again(
    cache: Cache, qemu: str, harm: Callable[[Path], None]
) -> None:
    found = tsc.frequency_khz(qemu, cache)
    harm(cache.root / "tsc-probe.json")
    assert tsc.frequency_khz(qemu, cache) == pytest.approx(found, rel=1e-3)
    assert records.read(cache.root / "tsc-probe.json")


def test_a_rate_that_changes_is_not_measured(
    cache: Cache, qemu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tsc, "_is_constant", lambda: False)
    assert tsc.frequency_khz(qemu, cache) == 0

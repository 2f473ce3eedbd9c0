import dataclasses
from pathlib import Path

import pytest

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.results.kernel_run import KernelRun
from bpfmatrix.sweep.state import Part, SweepState, digest_of, fingerprint_of
from tests.sweep import samples


@pytest.fixture
def state(tmp_path: Path) -> SweepState:
    return SweepState(tmp_path / "sweep")


def kept(state: SweepState, *kernels: str) -> list[tuple[Part, str]]:
    for id in kernels:
        state.keep(Part.TESTS, samples.run(samples.of_test("T"), kernel=id), "f1")
        state.keep(Part.PROGRAMS, samples.verification(samples.program("p"), kernel=id), "f2")
    return [(part, id) for id in kernels for part in Part]


def test_results_are_the_last_ones_once_they_are_reported(state: SweepState) -> None:
    reported = kept(state, "6.1")
    assert state.last(Part.TESTS) == {}
    assert state.swept_at is None
    state.settle(reported)
    assert state.swept_at is not None
    assert state.finished(Part.TESTS) == state.finished(Part.PROGRAMS) == {}
    result = state.last(Part.TESTS)["6.1"]
    assert isinstance(result, KernelRun)
    assert (digest_of(result), fingerprint_of(result)) == ("sha256:b", "f1")
    assert fingerprint_of(state.last(Part.PROGRAMS)["6.1"]) == "f2"


def test_results_that_were_not_reported_wait_for_the_next_sweep(state: SweepState) -> None:
    kept(state, "5.10", "6.1")
    state.settle([(Part.TESTS, "6.1"), (Part.PROGRAMS, "6.1")], waiting=None)
    assert list(state.last(Part.TESTS)) == ["6.1"]
    assert list(state.finished(Part.TESTS)) == ["5.10"]
    # Only some kernels were swept.
    assert state.swept_at is None


def test_a_sweep_of_all_kernels_keeps_no_results_that_nothing_will_report(
    state: SweepState,
) -> None:
    kept(state, "5.10", "6.1", "gone@user")
    state.settle([(Part.TESTS, "6.1")], waiting=["5.10"])
    assert list(state.finished(Part.TESTS)) == list(state.finished(Part.PROGRAMS)) == ["5.10"]
    assert state.swept_at is not None
    state.settle([], waiting=[])
    assert not (state.folder / "finished").exists()
    assert list(state.last(Part.TESTS)) == ["6.1"]


def test_what_no_source_offers_any_more_is_forgotten(state: SweepState) -> None:
    state.settle(kept(state, "6.1", "6.19"))
    state.settle([], gone=["6.19"])
    assert list(state.last(Part.TESTS)) == list(state.last(Part.PROGRAMS)) == ["6.1"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1}', "\udcff"])
def test_a_damaged_result_counts_as_none(state: SweepState, text: str) -> None:
    state.settle(kept(state, "5.10", "6.1"))
    for part in Part:
        path = state.folder / "last" / part / "6.1.json"
        path.write_text(text, errors="surrogateescape")
        assert list(state.last(part)) == ["5.10"]


def test_a_damaged_record_means_that_the_time_is_not_known(state: SweepState) -> None:
    state.settle(kept(state, "6.1"))
    (state.folder / "sweep.json").write_text("{}")
    assert state.swept_at is None


def test_two_sweeps_at_once_are_refused(state: SweepState) -> None:
    with (
        state.locked(),
        pytest.raises(BpfmatrixError, match="another sweep uses"),
        state.locked(),
    ):
        pass
    with state.locked():
        pass


def test_a_state_that_can_not_be_written_is_an_error_of_two_sentences(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BpfmatrixError) as caught, SweepState(tmp_path / "file/x").locked():
        pass
    assert str(tmp_path / "file/x") in caught.value.what
    assert caught.value.advice


def test_a_kept_result_is_one_that_reports_can_read(state: SweepState) -> None:
    from bpfmatrix.report import inputs

    reported = kept(state, "6.1")
    state.settle(reported)
    (run, one) = (result.run for result in inputs.read([state.folder]))
    assert {type(run).__name__, type(one).__name__} == {"KernelRun", "Verification"}
    assert dataclasses.asdict(run)["kernel"] == "6.1"

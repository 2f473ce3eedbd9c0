from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.results import files
from bpfmatrix.results.outcome import Outcome
from bpfmatrix.results.verification import Verification
from tests.verify.strategies import verifications


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verification=verifications)
def test_what_is_written_is_read_back(tmp_path: Path, verification: Verification) -> None:
    files.write(verification, tmp_path / "6.1.json")
    assert files.read_verification(tmp_path / "6.1.json") == verification


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(several=st.lists(verifications, max_size=3))
def test_what_is_saved_is_read_back(tmp_path: Path, several: list[Verification]) -> None:
    files.save(several, tmp_path / "base.json")
    assert files.read_saved(tmp_path / "base.json") == several


def test_one_kernels_file_serves_as_a_saved_one(tmp_path: Path) -> None:
    one = Verification("6.1", Outcome.PASSED)
    files.write(one, tmp_path / "6.1.json")
    assert files.read_saved(tmp_path / "6.1.json") == [one]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"schema": 99},
        {"schema": 1},
        {"schema": 1, "kernel": "6.1", "outcome": "fine", "programs": [], "maps": []},
        {"schema": 1, "kernel": "6.1", "outcome": "passed", "programs": [1], "maps": []},
        {"schema": 1, "kernel": "6.1", "outcome": "passed", "programs": [], "maps": [], "x": 1},
    ],
)
def test_what_is_no_verification_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"base\.json|fine"):
        files.parse_verification(data, "base.json")

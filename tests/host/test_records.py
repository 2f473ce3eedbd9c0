"""Records: what is read back, and what counts as none."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bpfmatrix.host import records
from tests.damage import DAMAGES

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = st.text().filter(lambda key: key not in {"checksum", "format"})
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_one_folder
@given(data=st.dictionaries(keys, values, max_size=4), format=st.integers())
def test_what_was_written_is_read(tmp_path: Path, data: dict[str, Any], format: int) -> None:
    records.write(tmp_path / "record", data, format)
    assert records.read(tmp_path / "record", format) == data
    assert records.read(tmp_path / "record", format + 1) is None
    assert records.read_unsealed(tmp_path / "record", format) is None
    assert [path.name for path in tmp_path.iterdir()] == ["record"]


@in_one_folder
@given(content=st.binary(max_size=40) | values.map(json.dumps).map(str.encode))
def test_wild_content_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record").write_bytes(content)
    assert records.read(tmp_path / "record") is None


@in_one_folder
@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_no_flipped_bit_changes_what_is_read(tmp_path: Path, place: int, bit: int) -> None:
    data = {"image": "kernels/x86_64/6.1.0-53", "pvh": True, "size": 1, "name": None}
    path = tmp_path / "record"
    records.write(path, data)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    assert records.read(path) in (None, data)  # data: if the bit was one of a blank


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_counts_as_none(tmp_path: Path, damage: Any) -> None:
    records.write(tmp_path / "record", {"a": 1})
    damage(tmp_path / "record")
    assert records.read(tmp_path / "record") is None


def test_deep_nesting_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "record").write_text("[" * 100_000)
    assert records.read(tmp_path / "record") is None


def test_a_record_of_an_earlier_version_has_no_checksum(tmp_path: Path) -> None:
    (tmp_path / "record").write_text('{"format": 1, "a": 1}')
    assert records.read(tmp_path / "record") is None
    assert records.read_unsealed(tmp_path / "record") == {"a": 1}


def test_a_record_that_can_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    records.write(tmp_path / "record", {"a": 1})
    with pytest.raises(TypeError):
        records.write(tmp_path / "record", {"a": object()})
    with pytest.raises(OSError, match="No such file"):
        records.write(tmp_path / "missing/record", {"a": 1})
    assert records.read(tmp_path / "record") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["record"]

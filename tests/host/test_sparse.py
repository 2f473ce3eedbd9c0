import os
from pathlib import Path

import pytest

from bpfmatrix.host import sparse
from tests.damage import flip_bit

MB = 1 << 20


@pytest.mark.parametrize(
    "pieces",
    [{}, {0: b"begin"}, {5 * MB: b"middle"}, {16 * MB - 3: b"end"}, {0: b"x" * MB, 9 * MB: b"y"}],
)
def test_a_copy_has_the_content_and_the_holes(tmp_path: Path, pieces: dict[int, bytes]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with one.open("wb") as file:
        file.truncate(16 * MB)
        for place, data in pieces.items():
            file.seek(place)
            file.write(data)
    # The old content must be gone, also where the source has a hole.
    other.write_bytes(b"old" * MB)
    with one.open("rb") as source, other.open("r+b") as target:
        sparse.copy(source.fileno(), target.fileno())
    assert other.read_bytes() == one.read_bytes()
    assert other.stat().st_blocks * 512 < 3 * MB


def test_a_checksum_is_that_of_the_content_whatever_is_a_hole(tmp_path: Path) -> None:
    def checksum(path: Path) -> str:
        with path.open("rb") as file:
            return sparse.sha256_of_open(file.fileno())

    one, full, other = tmp_path / "one", tmp_path / "full", tmp_path / "other"
    with one.open("wb") as file:
        file.truncate(4 * MB + 5)
        for place in (3, MB - 2, 3 * MB + 77):
            file.seek(place)
            file.write(b"data")
    full.write_bytes(one.read_bytes())
    assert full.stat().st_blocks > one.stat().st_blocks
    assert checksum(full) == checksum(one)
    for place in (0, 3, MB, 2 * MB, 4 * MB + 4):
        other.write_bytes(one.read_bytes())
        flip_bit(other, place)
        assert checksum(other) != checksum(one), place
    for size in (4 * MB + 4, 4 * MB + 6, 0):
        other.write_bytes(one.read_bytes())
        os.truncate(other, size)
        assert checksum(other) != checksum(one), size

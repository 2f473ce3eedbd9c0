from pathlib import Path

import pytest

from bpfmatrix.host import sparse

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

"""What a recording knows of the guest's Python."""

from pathlib import Path

import pytest

from bpfmatrix.profile.recording import Recording


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("os.pyc", "/lib/python3/__pycache__/os.cpython-311.pyc"),
        ("os.py", "/lib/python3/os.py"),
    ],
)
def test_the_folder_of_the_library_is_that_of_os_py(tmp_path: Path, place: str, path: str) -> None:
    tree = {"lib/python3/abc.py": Path("/lib/x"), f"lib/python3/{place}": Path(path)}
    assert Recording(tmp_path, tree).library == Path("/lib/python3")

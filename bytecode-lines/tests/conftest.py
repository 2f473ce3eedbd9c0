from __future__ import annotations

import shutil
from pathlib import Path

import hypothesis
import pytest

from compiled import FIXTURES

# Without a time limit for each example, since other processes may keep the machine busy.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.load_profile("here")


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture
def compiled_fixtures(tmp_path: Path) -> Path:
    """A folder with the .pyc files, without their source, which this Python would compile, too."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    for path in FIXTURES.glob("*.pyc"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def source_lines() -> list[str]:
    """Return the lines of traps.py; the first has the index 1."""
    return ["", *(FIXTURES / "traps.py").read_text().splitlines()]

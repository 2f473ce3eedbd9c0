from __future__ import annotations

from pathlib import Path

import pytest

from compiled import FIXTURES


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def source_lines() -> list[str]:
    """Return the lines of traps.py; the first has the index 1."""
    return ["", *(FIXTURES / "traps.py").read_text().splitlines()]

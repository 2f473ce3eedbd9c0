from pathlib import Path

import pytest

from pylines import Code, pyc, walk

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = [
    (2, 7),
    *((3, minor) for minor in range(6, 15)),
]


def functions(version: tuple[int, int]) -> dict[str, Code]:
    """Return the code objects of traps.py, by qualified name, compiled by a version of CPython."""
    compiled = pyc.load(FIXTURES / f"traps.{version[0]}.{version[1]}.pyc")
    assert compiled.version == version
    return {code.qualified_name: code for code in walk(compiled.code, version)}


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def source_lines() -> list[str]:
    """Return the lines of traps.py; the first has the index 1."""
    return ["", *(FIXTURES / "traps.py").read_text().splitlines()]

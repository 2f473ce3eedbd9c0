from pathlib import Path

import pytest

from pylines import Code, pyc, walk

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = [
    (2, 7),
    *((3, minor) for minor in range(6, 15)),
]


def functions(version: tuple[int, int]) -> dict[str, Code]:
    """The code objects of traps.py as a version of CPython compiled it, by qualified name."""
    compiled = pyc.load(FIXTURES / f"traps.{version[0]}.{version[1]}.pyc")
    assert compiled.version == version
    return {code.qualified_name: code for code in walk(compiled.code, version)}


@pytest.fixture
def fixtures() -> Path:
    return FIXTURES


@pytest.fixture(scope="session")
def source_lines() -> list[str]:
    """The lines of traps.py, of which the first has the number 1."""
    return ["", *(FIXTURES / "traps.py").read_text().splitlines()]

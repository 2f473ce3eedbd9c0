"""The code objects of fixtures/traps.py, as each version of CPython has compiled it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from bytecode_lines import Code, pyc, walk

FIXTURES: Final = Path(__file__).parent / "fixtures"
VERSIONS: Final = [(2, 7), *((3, minor) for minor in range(6, 15))]
# For processes of Python that import bytecode_lines, which may not be installed.
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "src")}


def functions(version: tuple[int, int]) -> dict[str, Code]:
    """Return the code objects of traps.py, by qualified name, compiled by a version of CPython."""
    compiled = pyc.load(FIXTURES / f"traps.{version[0]}.{version[1]}.pyc")
    assert compiled.version == version
    return {code.qualified_name: code for code in walk(compiled.code, version)}

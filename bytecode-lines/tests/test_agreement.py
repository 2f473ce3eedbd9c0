"""bytecode-lines finds the lines that each Python reports, over its standard library."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xdis.unmarshal

import agreement
from bytecode_lines import lines_of, pyc, walk

VERSIONS = ["2.7", "3.5", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]


def on_this_machine() -> list[str]:
    """Return Pythons on PATH and of pyenv, one for each version."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found: dict[str, str] = {}
    for version in VERSIONS:
        names = [
            shutil.which(f"python{version}"),
            *sorted(root.glob(f"versions/{version}.*/bin/python")),
        ]
        for name in filter(None, names):
            # A shim of pyenv on PATH fails if no such version is selected.
            done = subprocess.run([str(name), "-V"], capture_output=True, text=True, check=False)
            if done.stdout.startswith(f"Python {version}.") or f" {version}." in done.stderr[:12]:
                found.setdefault(version, str(name))
    return list(found.values())


def test_a_part_of_the_library_of_this_python(tmp_path: Path) -> None:
    # It has 773 functions in Debian 12's Python 3.11, and 396 in Debian 13's 3.13.
    agreement.check([sys.executable], tmp_path, least=300, every=40)


@pytest.mark.integration
def test_the_pythons_of_this_machine(tmp_path: Path) -> None:
    pythons = {sys.executable, *on_this_machine()}
    for number, python in enumerate(sorted(pythons)):
        folder = tmp_path / str(number)
        folder.mkdir()
        # The whole library of this Python, and parts of the others. For all of another one:
        # python bytecode-lines/tests/agreement.py PYTHON
        agreement.check([python], folder, least=100, every=1 if python == sys.executable else 15)
        shutil.rmtree(folder)


def test_xdis_gives_the_same_code_and_lines(fixtures: Path) -> None:
    for path in sorted(fixtures.glob("*.pyc")):
        ours = pyc.load(path)
        content = path.read_bytes()
        magic = int.from_bytes(content[:2], "little")
        header = 8 if ours.version < (3, 3) else 12 if ours.version < (3, 7) else 16
        theirs = xdis.unmarshal.load_code(content[header:], magic)
        pairs = zip(walk(ours.code, ours.version), walk(theirs, ours.version))
        # xdis 6.3.0 decodes line tables of Python 2 as UTF-8, and drops invalid bytes.
        comparable = [(a, b) for a, b in pairs if ours.version >= (3, 0) or a.table.isascii()]
        assert len(comparable) >= 15
        for a, b in comparable:
            assert a == b, path.name
            assert lines_of(a).ranges == lines_of(b).ranges

"""bytecode-lines finds the lines that Debian's Pythons report, over their standard libraries.

Their packages are downloaded in the same way as kernels, unpacked, and run from where they are,
with their own C library. All other tests are those of bytecode-lines, which import no bpfmatrix.
"""

import platform
from pathlib import Path

import agreement
import pytest

from tests import pythons


def command(python: Path) -> list[str]:
    """Return the words that start the interpreter of an unpacked root."""
    root = python.parents[2]
    folders = [root / name / f"{platform.machine()}-linux-gnu" for name in ("lib", "usr/lib")]
    libraries = ":".join(map(str, folders))
    # By its path, which each architecture has elsewhere; it may be a link to a path of the host.
    loader = next(path for folder in folders for path in sorted(folder.glob("ld-*.so*")))
    return [str(loader), "--library-path", libraries, "--argv0", str(python), str(python)]


@pytest.mark.integration
@pytest.mark.parametrize("version", ["3.13", "3.14"])
def test_the_pythons_of_debian(version: str, tmp_path: Path) -> None:
    python = command(pythons.of_debian(version, tmp_path))
    folder = tmp_path / "compiled"
    folder.mkdir()
    agreement.check(python, folder, least=15_000)

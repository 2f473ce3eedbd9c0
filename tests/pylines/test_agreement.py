"""pylines finds the lines that each Python itself reports, over its whole standard library.

The Pythons are those of this machine and those of Debian. Debian's packages are downloaded in the
same way as kernels, unpacked, and run from where they are, with their own C library.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import xdis.unmarshal

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.sources.apt_archive import Archive
from pylines import lines_of, pyc, walk
from tests.pylines import agreement

VERSIONS = ["2.7", "3.5", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14"]


def check(python: Sequence[str], folder: Path, least: int, every: int = 1) -> None:
    agreement.run_oracle(python, agreement.library(python)[::every], folder)
    assert agreement.compare(folder) >= least


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
    check([sys.executable], tmp_path, least=300, every=40)


@pytest.mark.integration
def test_the_pythons_of_this_machine(tmp_path: Path) -> None:
    pythons = {sys.executable, *on_this_machine()}
    for number, python in enumerate(sorted(pythons)):
        folder = tmp_path / str(number)
        folder.mkdir()
        # The whole library of this Python, and parts of the others. For all of another one:
        # python -m tests.pylines.agreement PYTHON
        check([python], folder, least=100, every=1 if python == sys.executable else 15)
        shutil.rmtree(folder)


PACKAGES = (
    r"python{0}-minimal|libpython{0}-(minimal|stdlib)|libc6|libexpat1|zlib1g|libssl3t64|libffi8"
    r"|libbz2-1\.0|liblzma5|libzstd1|libgcc-s1"
)


def debian_python(version: str, suite: str, folder: Path) -> list[str]:
    """Download the Python of a Debian release; return the command that runs it."""
    archive = Archive.of_host(Cache(folder / "cache"), suite, "x86_64")
    try:
        archive.update()
    except KernelUnavailableError as error:
        # Nothing here can mend a mirror that was left behind; anything else is a failure.
        if "is expired" not in error.advice:
            raise
        pytest.skip(f"the mirror's {suite} is out of date; {error.advice}")
    names = PACKAGES.format(re.escape(version))
    debs = archive.debs(re.compile(rf"Package: ({names})\n"))
    if not any(deb.name == f"python{version}-minimal" for deb in debs):
        pytest.skip(f"{suite} has no Python {version} any more")
    downloads = folder / "debs"
    downloads.mkdir()
    for deb in archive.download(debs, downloads):
        subprocess.run(["dpkg-deb", "-x", deb, folder / "root"], check=True)
    root = folder / "root"
    libraries = ":".join(str(root / name / "x86_64-linux-gnu") for name in ("lib", "usr/lib"))
    python = str(root / f"usr/bin/python{version}")
    (loader,) = root.glob("usr/lib64/ld-linux-x86-64.so.2")
    return [str(loader), "--library-path", libraries, "--argv0", python, python]


@pytest.mark.integration
@pytest.mark.parametrize(("version", "suite"), [("3.13", "trixie"), ("3.14", "sid")])
def test_the_pythons_of_debian(version: str, suite: str, tmp_path: Path) -> None:
    python = debian_python(version, suite, tmp_path)
    folder = tmp_path / "compiled"
    folder.mkdir()
    check(python, folder, least=15_000)


def test_xdis_gives_the_same_code_and_lines(fixtures: Path) -> None:
    for path in sorted(fixtures.glob("*.pyc")):
        ours = pyc.load(path)
        content = path.read_bytes()
        magic = int.from_bytes(content[:2], "little")
        header = 8 if ours.version < (3, 3) else 12 if ours.version < (3, 7) else 16
        theirs = xdis.unmarshal.load_code(content[header:], magic)
        pairs = zip(walk(ours.code, ours.version), walk(theirs, ours.version), strict=True)
        # xdis 6.3.0 decodes line tables of Python 2 as UTF-8, and drops invalid bytes.
        comparable = [(a, b) for a, b in pairs if ours.version >= (3, 0) or a.table.isascii()]
        assert len(comparable) >= 15
        for a, b in comparable:
            assert a == b, path.name
            assert lines_of(a).ranges == lines_of(b).ranges

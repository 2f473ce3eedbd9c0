"""bytecode-lines finds the lines that Debian's Pythons report, over their standard libraries.

Their packages are downloaded in the same way as kernels, unpacked, and run from where they are,
with their own C library. All other tests are those of bytecode-lines, which import no bpfmatrix.
"""

import re
import subprocess
from pathlib import Path

import agreement
import pytest

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.sources.apt_archive import Archive

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
    agreement.check(python, folder, least=15_000)

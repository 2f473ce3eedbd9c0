"""Pythons for tests: those of this machine, and those of other releases of Debian."""

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.kernels.sources.apt_archive import Archive

PACKAGES = (
    r"python{0}-minimal|libpython{0}-(minimal|stdlib)|libc6|libexpat1|zlib1g|libssl(1\.1|3t64)|libffi[78]"
    r"|libmpdec3|libuuid1|libcrypt1"
    r"|libbz2-1\.0|liblzma5|libzstd1|libgcc-s1"
)
SUITES = {"3.9": "bullseye", "3.13": "trixie", "3.14": "sid"}


def on_this_machine(version: str) -> str:
    """Return the first interpreter of a version, on PATH or of pyenv; empty if there is none."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    own = sorted(root.glob(f"versions/{version}.*/bin/python3"))
    for path in filter(None, (shutil.which(f"python{version}"), *map(str, own))):
        # What pyenv puts on PATH ends with an error where no such version is chosen.
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return ""


def of_debian(version: str, folder: Path) -> Path:
    """Download and unpack the Python of a release of Debian; return its interpreter."""
    suite = SUITES[version]
    archive = Archive.of_host(Cache(folder / "cache"), suite, platform.machine())
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
    return folder / f"root/usr/bin/python{version}"

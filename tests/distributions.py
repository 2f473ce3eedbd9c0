"""The distributions of this checkout, built as a release is: an sdist, wheels, and a wheelhouse."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.tool import REPOSITORY

# With what `pip` builds: the packages of build-system.requires are of the group `dev`.
_PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def build_sdist(folder: Path, checkout: Path = REPOSITORY) -> Path:
    """Build the sdist of a checkout into a folder."""
    command = (sys.executable, "-m", "hatchling", "build", "--target", "sdist", "-d", str(folder))
    subprocess.run(command, cwd=checkout, check=True, capture_output=True)
    [made] = folder.glob("*.tar.gz")
    return made


def files_of(sdist: Path) -> set[str]:
    """Return the paths of an sdist's files, without its top folder."""
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def build_wheel(
    source: Path, folder: Path, architectures: Iterable[str] = (), loaders: Iterable[str] = ()
) -> Path:
    """Build a wheel from a checkout or an sdist, for these architectures and with these loaders."""
    chosen = {"ARCHITECTURES": architectures, "LOADERS": loaders}
    subprocess.run(
        [*_PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
        env=os.environ | {f"BPFMATRIX_WHEEL_{key}": ",".join(chosen[key]) for key in chosen},
    )
    [made] = folder.glob("bpfmatrix-*.whl")
    return made


def add_dependencies(wheel: Path, folder: Path, *more: str) -> None:
    """Download all packages that a wheel depends on into a folder, with a copy of the wheel."""
    subprocess.run(
        [*_PIP, "download", "--only-binary", ":all:", "-d", folder, wheel, *more], check=True
    )

"""Fixtures of the tests that boot kernels."""

import os
import shutil
from pathlib import Path

import pytest

from bpfmatrix.host.cache import Cache
from tests.integration import debian_image
from tests.rootfs.layouts import Layout

# Small suites of other kinds, which only run in guests.
collect_ignore = ["projects"]


@pytest.fixture
def own_cache(tmp_path: Path) -> Path:
    """The folder of a cache for this test alone, with the kernels of the user's cache."""
    users, own = Cache.default().root, tmp_path / "own-cache"
    own.mkdir()
    for name in ("kernels", "refs"):
        if (users / name).exists():
            shutil.copytree(users / name, own / name, copy_function=_link_or_copy, symlinks=True)
    return own


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A small Debian with Python, iproute2 and nft, as the image of an OCI layout."""
    return debian_image.write(tmp_path_factory.mktemp("debian") / "layout")


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)

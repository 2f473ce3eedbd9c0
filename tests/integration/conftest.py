import os
import shutil
from pathlib import Path

import pytest

from bpfmatrix.host.cache import Cache


@pytest.fixture
def own_cache(tmp_path: Path) -> Path:
    """A cache of this test alone, which has the kernels of the user's."""
    users, own = Cache.default().root, tmp_path / "own-cache"
    own.mkdir()
    for name in ("kernels", "refs"):
        if (users / name).exists():
            shutil.copytree(users / name, own / name, copy_function=_link_or_copy, symlinks=True)
    return own


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)

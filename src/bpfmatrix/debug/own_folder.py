"""The folder of a debug session, in which its files and logs are."""

import contextlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.host import locks

__all__ = ["own_folder"]


@contextlib.contextmanager
def own_folder(project: Project, name: str) -> Iterator[Path]:
    """Give the folder of this session, which does not exist yet.

    It is the first one of NAME, NAME-2, NAME-3 and so on that no other session uses. It stays until
    a later session takes it, so there are never more than there were sessions at a time.
    """
    parent = project.state / "debug"
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        with locks.locked_if_free(parent / f".{folder.name}.lock") as ours:
            if ours:
                shutil.rmtree(folder, ignore_errors=True)
                yield folder
                return

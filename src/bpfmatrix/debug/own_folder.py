"""The folder of a debug session, in which its files and logs are."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.host import locks

__all__ = ["own_folder"]


@contextlib.contextmanager
def own_folder(project: Project, name: str) -> Iterator[Path]:
    """Give the folder of this session, which does not exist yet: another one if it is in use."""
    parent = project.state / "debug"
    parent.mkdir(parents=True, exist_ok=True)
    with locks.locked_if_free(parent / f".{name}.lock") as ours:
        folder = parent / (name if ours else f"{name}-{os.getpid()}")
        shutil.rmtree(folder, ignore_errors=True)
        yield folder

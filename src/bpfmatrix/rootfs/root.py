"""The root file system of the tests, as far as the checks of executables look at it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["AnyRoot", "FolderRoot", "Root"]


class Root(Protocol):
    """A root file system; `str` gives its name for people."""

    @property
    def is_host(self) -> bool:
        """Whether it is the root of the host."""

    def has(self, path: str) -> bool:
        """Tell whether it has this path. Symbolic links in it are followed, but not the last."""


@dataclass(frozen=True)
class FolderRoot:
    """A folder of the host (`Root`)."""

    path: Path

    @property
    def is_host(self) -> bool:
        """See `Root`."""
        return self.path == Path("/")

    def has(self, path: str) -> bool:
        """See `Root`."""
        # Not exists(): an absolute link may only resolve below that root.
        return os.path.lexists(self.path / path.lstrip("/"))

    def __str__(self) -> str:
        return str(self.path)


class AnyRoot:
    """A root whose files are not known yet (`Root`): it is taken to have whatever is needed."""

    is_host = False

    def has(self, path: str) -> bool:
        """See `Root`."""
        return True

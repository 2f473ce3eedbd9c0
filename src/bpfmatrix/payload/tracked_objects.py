"""The object files that git tracks, and that differ from the commit: a push would send others.

Projects with bpf2go, and others, keep built objects in git, so that their users need no clang.
"""

import shlex
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.git import Git

__all__ = ["ChangedObjectsError", "changed", "require_unchanged"]


class ChangedObjectsError(BpfmatrixError):
    """What was built, or lies in the checkout, is not what git would push."""


def changed(folder: Path) -> list[str]:
    """Return the tracked `*.o` below a folder whose content differs from HEAD, or that are gone.

    The paths are relative to the folder. Outside of a git repository, there are none.
    """
    question = ("diff", "--name-only", "--no-ext-diff", "--relative", "-z", "HEAD", "--", "*.o")
    # There may be no commit yet.
    return sorted(Git(folder).paths(*question) or [])


def require_unchanged(folder: Path) -> None:
    """Raise ChangedObjectsError, which names the objects, if a push would send others."""
    if found := changed(folder):
        differ = "differs" if len(found) == 1 else "differ"
        raise ChangedObjectsError(
            f"{', '.join(found)} {differ} from the commit, so a push would not send what was run",
            f"Commit what was built: git add {shlex.join(found)}",
        )

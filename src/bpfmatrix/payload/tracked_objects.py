"""The object files that git tracks, and that differ from the commit: a push would send others.

Projects with bpf2go, and others, keep built objects in git, so that their users need no clang.
"""

import os
import shlex
import subprocess
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import tools

__all__ = ["ChangedObjectsError", "changed", "require_unchanged"]


class ChangedObjectsError(BpfmatrixError):
    """What was built, or lies in the checkout, is not what git would push."""


def changed(folder: Path) -> list[str]:
    """Return the tracked `*.o` below a folder whose content differs from HEAD, or that are gone.

    The paths are relative to the folder. Outside of a git repository, there are none.
    """
    program = tools.find("git")
    if program is None:
        return []
    # The checkout may belong to another user, and a hook's variables name its own repository.
    settings = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    question = ("diff", "--name-only", "--no-ext-diff", "--relative", "-z", "HEAD", "--", "*.o")
    done = subprocess.run(
        [program, *settings, "-C", str(folder), *question],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:  # no repository, or no commit
        return []
    return sorted(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)


def require_unchanged(folder: Path) -> None:
    """Raise ChangedObjectsError, which names the objects, if a push would send others."""
    if found := changed(folder):
        differ = "differs" if len(found) == 1 else "differ"
        raise ChangedObjectsError(
            f"{', '.join(found)} {differ} from the commit, so a push would not send what was run",
            f"Commit what was built: git add {shlex.join(found)}",
        )

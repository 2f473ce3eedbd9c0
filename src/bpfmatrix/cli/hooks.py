"""git's pre-push hook, which runs `nox -s pre-push` and lets a push go that passed.

A hook that was there before is kept, under another name, and called first.
"""

import shlex
import subprocess
import sys
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError

__all__ = ["install"]

# By this a hook of ours is known, and may be written again.
_MARK = "# Installed by `invoke hooks.install` of bpfmatrix."
_KEPT = "pre-push.before-bpfmatrix"

_HOOK = """\
#!/bin/sh
{mark} Remove this file to be rid of it.
hooks=$(dirname "$0")
refs=$(cat)
if [ -x "$hooks/{kept}" ]; then
	{{ [ -z "$refs" ] || printf '%s\\n' "$refs"; }} | "$hooks/{kept}" "$@" || exit
fi
# git calls this at the top of the checkout that is pushed from: one of several worktrees, perhaps.
# Nothing to do where all is up to date, or where the project is not on this branch.
project={folder}
[ -n "$refs" ] && [ -e "$project/kernels.yaml" ] || exit 0
cd "$project" || exit
# git sets these for its hooks; a git that a build calls would take them for its own.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
exec {nox} -s pre-push </dev/null
"""


def install(project: Project) -> tuple[Path, Path | None]:
    """Write the hook; return its path, and that of the hook that was kept, if there was one."""
    hook = _hook_path(project)
    hook.parent.mkdir(parents=True, exist_ok=True)
    kept = hook.with_name(_KEPT)
    if hook.exists() and _MARK not in hook.read_text(errors="replace"):
        if kept.exists():
            raise BpfmatrixError(
                f"both {hook} and {kept.name} are hooks of others", "Keep one of them."
            )
        hook.replace(kept)
    inside = _git(project, "--show-prefix") or "."
    text = _HOOK.format(mark=_MARK, kept=_KEPT, folder=shlex.quote(inside), nox=shlex.quote(_nox()))
    new = hook.with_name(".pre-push.new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(hook)
    return hook, kept if kept.exists() else None


def _hook_path(project: Project) -> Path:
    """Ask git, which knows of worktrees and of core.hooksPath."""
    return project.root / _git(project, "--git-path", "hooks/pre-push")


def _git(project: Project, *question: str) -> str:
    done = subprocess.run(
        ["git", "rev-parse", *question],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BpfmatrixError(
            f"{project.root} is no checkout of git", "Run this in the project's checkout."
        )
    return done.stdout.strip()


def _nox() -> str:
    """Return the nox beside this Python, which has bpfmatrix; it need not be on the PATH."""
    beside = Path(sys.executable).with_name("nox")
    return str(beside) if beside.exists() else "nox"

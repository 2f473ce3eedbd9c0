"""git's pre-push hook: it runs `nox -s pre-push` or `bpfmatrix pre-push`, and stops the push if
that fails.

A hook that exists already is kept under another name, and called first.
"""

import os
import re
import shlex
import sys
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.front_end import FrontEnd, front_end, has_sessions
from bpfmatrix.host.git import Git, reason

__all__ = ["install"]

# A hook with such a line was written by `install`, which may overwrite it.
_MARK = re.compile(r"^# Installed by `\w+ hooks\.install` of bpfmatrix\.", re.MULTILINE)
_KEPT = "pre-push.before-bpfmatrix"

_HOOK = """\
#!/bin/sh
# Installed by `{front_end} hooks.install` of bpfmatrix. To uninstall it, remove this file.
hooks=$(dirname "$0")
refs=$(cat)
if [ -x "$hooks/{kept}" ]; then
	{{ [ -z "$refs" ] || printf '%s\\n' "$refs"; }} | "$hooks/{kept}" "$@" || exit
fi
# git calls this in the top folder of the checkout that pushes, which may be one of many worktrees.
# There is nothing to do if nothing is pushed, or if this branch does not have the project.
project={folder}
[ -n "$refs" ] || exit 0
[ -e "$project/kernels.yaml" ] || [ -e "$project/kernels.yml" ] || exit 0
cd "$project" || exit
# git sets these variables for its hooks. A build that calls git elsewhere must not inherit them.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
exec {command} </dev/null
"""


def install(project: Project) -> tuple[Path, Path | None]:
    """Write the hook; return its path, and the path of the hook that was kept, if there was one.

    BpfmatrixError outside of a git checkout, if there are two hooks of others, or if the folder of
    git's hooks can't be written.
    """
    hook = _hook_path(project)
    try:
        return _install(project, hook)
    except OSError as error:
        raise BpfmatrixError(
            f"the hook {hook} can't be written: {error.strerror}",
            "Make that folder writable, or name another one: git config core.hooksPath FOLDER.",
        ) from error


def _install(project: Project, hook: Path) -> tuple[Path, Path | None]:
    kept = hook.with_name(_KEPT)
    if hook.parent.exists() and not hook.parent.is_dir():
        raise BpfmatrixError(
            f"git looks for hooks in {hook.parent}, which is not a folder",
            "Run `git config --show-origin core.hooksPath`, and remove it there or name a folder.",
        )
    for path in (hook, kept):
        if path.is_dir():
            raise BpfmatrixError(f"{path} is a folder, and no hook", "Remove it, or rename it.")
    hook.parent.mkdir(parents=True, exist_ok=True)
    if hook.exists() and not _MARK.search(hook.read_text(errors="replace")):
        if kept.exists():
            raise BpfmatrixError(
                f"there are two other hooks, {hook} and {kept.name}",
                "Merge them into one file, and install the hook again.",
            )
        hook.replace(kept)
    inside = _git(project, "--show-prefix") or "."
    command = shlex.join(_command(project.root))
    # The name alone: all users of this repository read the hook, wherever their programs are.
    typed = "bpfmatrix" if front_end(sys.argv[0]) is FrontEnd.BPFMATRIX else "invoke"
    text = _HOOK.format(front_end=typed, kept=_KEPT, folder=shlex.quote(inside), command=command)
    new = hook.with_name(".pre-push.new")
    new.write_text(text, errors="surrogateescape")
    new.chmod(0o755)
    new.replace(hook)
    return hook, kept if kept.exists() else None


def _hook_path(project: Project) -> Path:
    """Ask git for the path, since worktrees and core.hooksPath change it."""
    return project.root / _git(project, "--git-path", "hooks/pre-push")


def _git(project: Project, *question: str) -> str:
    done = Git(project.root).run("rev-parse", *question)
    if done.returncode != 0:
        said = reason(done)
        raise BpfmatrixError(
            f"{project.root} is not in a git checkout: git said: {said}",
            "Run this in the checkout of the project.",
        )
    return os.fsdecode(done.stdout).removesuffix("\n")


def _command(root: Path) -> list[str]:
    """Return what runs the kernels before a push: the session of the noxfile, if it has our own."""
    name = "nox" if has_sessions(root) else "bpfmatrix"
    words = ["-s", "pre-push"] if name == "nox" else ["pre-push"]
    return [_beside(name), *words]


def _beside(name: str) -> str:
    """Return the program beside this Python: it has bpfmatrix, and need not be on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name

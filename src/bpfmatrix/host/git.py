"""git, run in a folder of a project: what it prints, whatever hook or user this process is of."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bpfmatrix.host import process, tools

__all__ = ["Git", "reason"]

# The checkout may belong to another user, as in containers. The only program that git would run for
# this is the file system monitor that the checkout names.
_SETTINGS = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")

# A hook of git, such as pre-push, has variables that name its own repository: those of
# `git rev-parse --local-env-vars` but for GIT_CONFIG_*, in which a CI may have its credentials.
_OF_A_HOOK = frozenset(
    {
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_NAMESPACE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    }
)


class Git:
    """git in one folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to that of this process."""
        self.folder = folder
        self.is_installed = tools.find("git") is not None
        own = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
        self._environment = {**own, **(environment or {})}

    def run(
        self, *words: str, text: bytes = b"", env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command of git, with `text` as its standard input.

        ToolMissingError if git is not installed.
        """
        return subprocess.run(
            [tools.require("git", "git"), *_SETTINGS, "-C", str(self.folder), *words],
            env={**self._environment, **(env or {})},
            input=text,
            capture_output=True,
            check=False,
            # ssh can't ask for anything either, as it has no terminal.
            start_new_session=True,
        )

    def output(self, *words: str) -> bytes | None:
        """Return what a command prints; None if it fails, or if git is not installed."""
        done = self.run(*words) if self.is_installed else None
        return done.stdout if done and done.returncode == 0 else None

    def line(self, *words: str) -> str:
        """Return what a command prints, without white space around it; empty if it fails."""
        return os.fsdecode(self.output(*words) or b"").strip()

    def lines(self, *words: str) -> list[str]:
        """Return the lines that a command prints; none if it fails."""
        return os.fsdecode(self.output(*words) or b"").splitlines()

    def paths(self, *words: str) -> list[str] | None:
        """Return the paths that a command prints with `-z`; None if it fails."""
        printed = self.output(*words)
        if printed is None:
            return None
        return [os.fsdecode(path) for path in printed.split(b"\0") if path]


def reason(done: "subprocess.CompletedProcess[bytes]") -> str:
    """Return in one line why git failed, without what it says at each failure of a push."""
    always = ("To ", "error: failed to push")
    lines = map(str.strip, done.stderr.decode(errors="replace").splitlines())
    told = [line for line in lines if line and not line.startswith(always)]
    return process.reason_of_end(done.returncode, "; ".join(told))

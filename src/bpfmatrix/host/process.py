"""Child processes: one that can't outlive this process, and one that is run for its output."""

import errno
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import tools

__all__ = ["output", "reason_of_end", "run_merged", "run_split", "tied"]

_REASON_CHARACTERS = 200


def tied(command: Sequence[str | Path], by: Literal["KILL", "TERM"] = "KILL") -> list[str]:
    """Return a command that the kernel ends when this process dies, even by SIGKILL.

    `by` is the signal; TERM lets the command remove unfinished files first. Strictly, the kernel
    sends it when the thread that started the command ends (PR_SET_PDEATHSIG of prctl(2)).

    ToolMissingError if setpriv is not installed.
    """
    # If this process dies before setpriv has made that request, there is no signal. The shell
    # therefore checks that this process is still its parent, and runs nothing otherwise.
    ours = str(os.getpid())
    return [
        *(str(tools.require("setpriv", "util-linux")), "--pdeathsig", by, "--"),
        *("sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"', ours, *map(str, command)),
    ]


def run_merged(
    command: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with its standard error merged into its standard output.

    `env` has further environment variables.
    """
    return _run(command, cwd, env, subprocess.STDOUT)


def run_split(
    command: Sequence[str | Path], cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command like `run_merged`, with its standard error apart from its standard output."""
    return _run(command, cwd, env, subprocess.PIPE)


def _run(
    command: Sequence[str | Path],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stderr: int,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        check=False,
    )


def output(
    command: Sequence[str | Path],
    failure: str,
    *,
    env: Mapping[str, str] | None = None,
    error: type[BpfmatrixError] = BpfmatrixError,
) -> str:
    """Run a command to its end and return its standard output.

    If its exit status is not 0, raise `error` with the text `failure` and the last 200 characters
    of the command's standard error, for apt and dnf name the cause before their last line.
    """
    done = subprocess.run(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        full = os.strerror(errno.ENOSPC)
        if full in done.stderr:
            raise error(f"{failure}: {full}", "Free some space on its disk.")
        raise error(f"{failure}: {reason_of_end(done.returncode, done.stderr)}")
    return done.stdout


def reason_of_end(status: int, said: str) -> str:
    """Return why a command failed: the end of what it said, or else its status or its signal."""
    if said.strip():
        return said.strip()[-_REASON_CHARACTERS:]
    if -status == signal.SIGXFSZ:
        return "a file would be larger than this user's files may be (ulimit -f)"
    if status < 0:
        return f"signal {-status} ended it ({signal.strsignal(-status)})"
    return f"it exited with {status} and gave no reason"

"""Child processes: how one is tied to this process, and what the output of a failed one says."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import tools

__all__ = ["output", "run_merged", "tied"]

_REASON_CHARACTERS = 200


def tied(command: Sequence[str | Path], by: Literal["KILL", "TERM"] = "KILL") -> list[str]:
    """Return a command to which the kernel sends a signal when we die, even of SIGKILL.

    TERM lets the command remove what it left half-done. The kernel sends the signal when the
    thread ends that started the command (PR_SET_PDEATHSIG of prctl(2)).

    Whoever died before setpriv asked for that is no longer the parent by the time that the shell
    starts, and nothing is run then. ToolMissingError if there is no setpriv.
    """
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
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
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

    If its status is not 0, an error says `failure`, and the last line of its standard error.
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
        lines = done.stderr.strip().splitlines() or ["it gave no reason"]
        raise error(f"{failure}: {lines[-1][-_REASON_CHARACTERS:]}")
    return done.stdout

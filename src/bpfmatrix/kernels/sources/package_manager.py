"""Package managers as subprocesses: their words in a log, and they end with their parent."""

import contextlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bpfmatrix.host.process import tied

__all__ = ["run_logged"]


def run_logged(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    tell: Callable[[], None] = lambda: None,
) -> int:
    """Run a command with all that it says in `log`; returns its exit status.

    `tell` is called ten times a second meanwhile.
    """
    # One that outlived a killed bpfmatrix would keep the locks of its folders.
    with (
        log.open("wb") as said,
        subprocess.Popen(
            tied(command, by="TERM"),
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            while process.poll() is None:
                tell()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
        except BaseException:
            process.terminate()
            raise
        return process.returncode

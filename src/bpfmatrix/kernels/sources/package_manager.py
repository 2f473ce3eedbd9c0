"""Package managers as subprocesses: their output in a log, and one sentence for what went wrong."""

import contextlib
import errno
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.process import reason_of_end, tied

__all__ = ["Failure", "explained", "read_log", "run_logged"]

_LITTLE_BYTES = 1 << 16


@dataclass(frozen=True)
class Failure:
    """What a log means that contains a pattern.

    A package manager has one exit status for every failure, so only its log tells failures apart.
    """

    pattern: str
    """A regular expression."""
    error: type[BpfmatrixError]
    what: str
    """The sentence for what happened; `{NAME}` stands for a value that `explained` is given."""
    advice: str
    """The sentence for what to do, in the same way."""


def explained(failures: Sequence[Failure], log: str, **values: str) -> BpfmatrixError:
    """Return the error for the first failure whose pattern is in the log; the last fits any log."""
    failure = next(each for each in failures if re.search(each.pattern, log))
    return failure.error(failure.what.format(**values), failure.advice.format(**values))


def read_log(log: Path) -> str:
    """Return the log of a command that failed.

    A full disk may have kept the command from saying so: then this says it.
    """
    text = log.read_text(encoding="utf-8", errors="replace")
    if shutil.disk_usage(log.parent).free < _LITTLE_BYTES:
        text += f"\n{os.strerror(errno.ENOSPC)}\n"
    return text


def run_logged(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    show: Callable[[], None] = lambda: None,
) -> int:
    """Run a command with all of its output in `log`; return its exit status.

    `show` is called ten times a second meanwhile.
    """
    # One that outlived a killed bpfmatrix would keep the locks of its folders.
    with (
        log.open("wb") as output,
        subprocess.Popen(
            tied(command, by="TERM"),
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            while process.poll() is None:
                show()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
        except BaseException:
            process.terminate()
            raise
        if process.returncode < 0:  # a signal ended it, such as that of a limit on file sizes
            with contextlib.suppress(OSError):
                output.write(f"\n{reason_of_end(process.returncode, '')}\n".encode())
        return process.returncode

"""The task `bisect`: the release at which a program, or a test, begins or ceases to work."""

import shlex
from pathlib import Path
from typing import Any

from invoke.context import Context

from bpfmatrix.cli.options import options
from bpfmatrix.cli.tasks import words
from bpfmatrix.cli.tasks.common import behind_dashes, bpfmatrix_task
from bpfmatrix.config.project import Project
from bpfmatrix.errors import UsageError

__all__ = ["bisect"]

words.take("bisect", "objects")


@bpfmatrix_task(iterable=["objects", "binary"], auto_shortflags=False)
def bisect(
    c: Context,
    good: str,
    bad: str,
    program: str = "",
    objects: Any = None,
    run: str | None = None,
    binary: Any = None,
    timeout: str | None = None,
    skipped: str = "unknown",
    cold: bool = False,
    json: bool = False,
) -> None:
    """Find the first kernel on which a program loads (or not), or a test passes (or not).

    --program NAME OBJECT...: whether that program loads. --run REGEX, --binary PATH: whether these
    tests pass. -- COMMAND: whether a command of the guest exits with 0.
    """
    from bpfmatrix.bisect.search import Answer  # noqa: PLC0415
    from bpfmatrix.cli import bisect  # noqa: PLC0415 - `invoke -l` stays fast
    from bpfmatrix.verify.options import VerifyOptions  # noqa: PLC0415

    project, typed = Project.load(), behind_dashes()
    if skipped not in list(Answer):
        raise UsageError(f"--skipped {skipped}: expected one of {', '.join(Answer)}")
    if program and (run is not None or binary or typed):
        raise UsageError("--program goes with objects, and not with tests or a command")
    if objects and not program:
        raise UsageError(f"{objects[0]}: say which program of it, with --program NAME")
    if program:
        named = f" of {', '.join(objects)}" if objects else ""
        verify = VerifyOptions(objects=tuple(objects or ()), cold=cold)
        question = bisect.BisectOptions(f"{program}{named}", program, verify=verify)
    else:
        title = f"--run {run}" if run is not None else ", ".join(binary or ())
        binaries, arguments = list(binary or ()), typed
        if run is None and not binaries and typed:
            script = project.state / "bisect" / "command.sh"
            _write_script(script, typed)
            binaries, arguments, title = [str(script)], (), shlex.join(typed)
        asked = options(run, binaries, timeout, arguments, cold)
        question = bisect.BisectOptions(title or "all tests", run=asked, skipped=Answer(skipped))
    bisect.bisect(project, question, good, bad, json)


def _write_script(path: Path, command: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{shlex.join(command)}\n")
    path.chmod(0o755)

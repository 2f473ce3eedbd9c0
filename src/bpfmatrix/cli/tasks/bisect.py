"""The task `bisect`: the release at which a program, or a test, begins or ceases to work."""

import dataclasses
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.cli import options
from bpfmatrix.cli.tasks.declaration import option_task
from bpfmatrix.cli.tasks.invoke_changes import take_words
from bpfmatrix.cli.values import Values, run_options, verify_options
from bpfmatrix.errors import UsageError

if TYPE_CHECKING:
    from bpfmatrix.cli.bisect import BisectOptions
    from bpfmatrix.config.project import Project

__all__ = ["bisect"]

take_words("bisect", options.OBJECTS)


@option_task(
    options.GOOD,
    options.BAD,
    options.PROGRAM,
    options.OBJECTS,
    options.OLDEST,
    options.BUILD,
    options.TREE,
    options.FRESH.with_help("With --tree: try commits again whose answers are noted."),
    options.LOADER,
    options.PRESET,
    *options.TESTS,
    *options.HOST_FILES,
    *options.PRIVILEGES,
    options.SKIPPED,
    options.JSON,
    options.COLD,
)
def bisect(values: Values) -> int:
    """Find the first kernel on which a program loads (or not), or a test passes (or not).

    --program NAME OBJECT...: whether that program loads. --run REGEX, --binary PATH: whether these
    tests pass. -- COMMAND: whether that command exits with 0 in the guest.
    """
    from bpfmatrix.cli import bisect
    from bpfmatrix.config.project import Project

    project = Project.load()
    objects, program = values[options.OBJECTS], values[options.PROGRAM]
    if program:
        if values[options.OLDEST]:
            raise UsageError("--oldest is about all programs of the objects, not about --program")
        if values[options.RUN] is not None or values[options.BINARY] or values.arguments:
            raise UsageError("--program goes with objects, and not with tests or a command")
        question = _about_program(values, program)
    elif values[options.OLDEST]:
        return _oldest(project, values)
    elif objects:
        raise UsageError(
            f"{objects[0]}: say which program of it, with --program NAME",
            "For all of them at once, there is --oldest.",
        )
    else:
        question = _about_tests(project, values)
    good, bad = values[options.GOOD], values[options.BAD]
    if tree := values[options.TREE]:
        from bpfmatrix.cli.bisect_tree import bisect_tree

        if not good or not bad:
            raise UsageError(
                "--tree needs --good and --bad", "Name two revisions: --good v6.1 --bad v6.2."
            )
        if values[options.BUILD]:
            raise UsageError("--tree builds each kernel anyway: --build goes without --tree")
        _require_tests(project, question)
        return bisect_tree(
            project,
            question,
            tree,
            good,
            bad,
            fresh=values[options.FRESH],
            as_json=values[options.JSON],
        )
    if values[options.FRESH]:
        raise UsageError("--fresh goes with --tree")
    _require_tests(project, question)
    return bisect.bisect(project, question, good, bad, values[options.JSON])


def _require_tests(project: "Project", question: "BisectOptions") -> None:
    """Raise NoTestsError if the question is about tests and there are none.

    Archives are listed later, which takes a while.
    """
    from bpfmatrix.payload.declared import declared, no_tests

    run = question.run
    has_some = question.program or run.binaries or run.arguments or "tests" in declared(project)
    if not has_some:
        raise no_tests(project)


def _oldest(project: "Project", values: Values) -> int:
    from bpfmatrix.cli.bisect import BisectOptions
    from bpfmatrix.cli.bisect_oldest import oldest

    for option in (
        *(options.GOOD, options.BAD, options.TREE, options.FRESH),
        *(options.RUN, options.BINARY),
    ):
        if values[option]:
            raise UsageError(f"--oldest and --{option.name} don't go together")
    if values.arguments:
        raise UsageError("--oldest is about the programs of objects, and not about a command")
    if values[options.SKIPPED] != options.SKIPPED.default:
        raise UsageError("--skipped goes with tests, and not with --oldest")
    title = ", ".join(values[options.OBJECTS]) or "all objects"
    question = BisectOptions(title, verify=verify_options(values), build=values[options.BUILD])
    return oldest(project, question, values[options.JSON])


def _about_program(values: Values, program: str) -> "BisectOptions":
    from bpfmatrix.cli.bisect import BisectOptions

    objects = values[options.OBJECTS]
    title = f"{program} of {', '.join(objects)}" if objects else program
    return BisectOptions(title, program, verify=verify_options(values), build=values[options.BUILD])


def _about_tests(project: "Project", values: Values) -> "BisectOptions":
    """Ask about tests; a command after `--` is made a test binary, unless there are tests."""
    from bpfmatrix.bisect.search import Answer
    from bpfmatrix.cli.bisect import BisectOptions

    run = run_options(values, project)
    if run.run is not None:
        title = f"--run {run.run}"
    elif run.arguments and not run.binaries:
        title = shlex.join(run.arguments)
        script = _write_script(project.state / "bisect", run.arguments)
        run = dataclasses.replace(run, binaries=(script,), arguments=())
    else:
        title = ", ".join(map(str, run.binaries)) or "all tests"
    return BisectOptions(
        title, run=run, skipped=Answer(values[options.SKIPPED]), build=values[options.BUILD]
    )


def _write_script(folder: Path, command: Sequence[str]) -> Path:
    """Write a script that runs the command. Other commands, of bisections that run now, stay."""
    from bpfmatrix.host.checksum import sha256

    text = f"#!/bin/sh\n{shlex.join(command)}\n"
    path = folder / f"command-{sha256(text)[:12]}.sh"
    folder.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(f".{os.getpid()}")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(path)
    return path

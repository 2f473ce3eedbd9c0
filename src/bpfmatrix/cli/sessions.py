"""The nox sessions of a project: one for each kernel, `matrix`, `pre-push` and `verify`.

A session parses the options after `--`, runs the tests, loads the eBPF objects, and fails if a
kernel did not pass.
"""

import argparse
import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

from bpfmatrix.cli import options
from bpfmatrix.cli.again import again_of
from bpfmatrix.cli.errors import exit_status_of, exit_with_message
from bpfmatrix.cli.kernel_choice import several_kernels, with_profiles
from bpfmatrix.cli.nox_changes import take_ids_as_keywords
from bpfmatrix.cli.options import AnyOption, OptionKind
from bpfmatrix.cli.run_choice import chosen
from bpfmatrix.cli.values import Values, read, run_options
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.host import interrupts
from bpfmatrix.host.architecture import ARCHITECTURES

__all__ = ["KERNEL_OPTIONS", "MATRIX_OPTIONS", "parse", "register"]

_PREFIX = "kernel-"

KERNEL_OPTIONS: tuple[AnyOption, ...] = (
    options.ONLY,
    *options.TESTS,
    *options.HOST_FILES,
    *options.PRIVILEGES,
    options.PROFILE,
    options.CORE,
    options.DUMP,
    options.COLD,
    options.RAW,
)
"""The options of the session of a kernel."""
MATRIX_OPTIONS: tuple[AnyOption, ...] = (
    *options.SEVERAL_KERNELS,
    options.CACHED,
    options.FRESH,
    *KERNEL_OPTIONS,
)
"""The options of `matrix` and `pre-push`."""


def register(root: Path | None = None) -> None:
    """Make the sessions of the project in `root`; None means the working directory.

    A noxfile calls this. An error in kernels.yaml, or a kernel on nox's command line that does not
    exist, ends the process with a message and status 2.
    """
    with interrupts.ending():
        _register(root, sys._getframe(1).f_code.co_filename)


def _register(root: Path | None, noxfile: str) -> None:
    # nox 2026.10 prints this in every run, even of sessions that have no environment.
    logging.getLogger("nox").addFilter(lambda record: record.msg != "uv binary not found.")
    with exit_with_message():
        project = Project.load(root)
        own = _sessions_of(noxfile)
        _refuse_unknown_kernels(project.config, [word for word in sys.argv[1:] if word not in own])
    take_ids_as_keywords()
    for id in _session_ids(project.config, sys.argv[1:]):
        _register_kernel(project, project.config.kernel(id))
    _register_matrix(project)
    _register_verify(project)


def _sessions_of(noxfile: str) -> set[str]:
    """Return the noxfile's own sessions that have the prefix of ours, such as `kernel-build`.

    nox does not know them yet. A function's name has no hyphen, so the noxfile has such a name in
    quotes.
    """
    text = Path(noxfile).read_text(encoding="utf-8", errors="replace")
    return set(re.findall(rf"""["']({_PREFIX}[^"'\s]+)["']""", text))


def _refuse_unknown_kernels(config: Config, words: Sequence[str]) -> None:
    """Raise UsageError, which names the kernels; nox would only say that there is no session."""
    for word in words:
        if word.startswith(_PREFIX):
            config.kernel(word.removeprefix(_PREFIX))


def _session_ids(config: Config, words: Sequence[str]) -> list[str]:
    """Return the ids that have sessions: all kernels, and with those profiles that kernels.yaml
    lists for the matrix, or that the command line names.
    """
    named = (word.removeprefix(_PREFIX) for word in words if word.startswith(_PREFIX))
    profiled = filter(config.has, (*config.matrix_ids, *config.pre_push_ids, *named))
    return list(dict.fromkeys((*config.kernels, *profiled)))


def _register_kernel(project: Project, kernel: KernelConfig) -> None:
    def session(session: nox.Session) -> None:
        values = parse(session.name, KERNEL_OPTIONS, session.posargs)
        with exit_with_message():
            ids = with_profiles(project.config, [kernel.id], values)
        _run(session, project, ids, values)

    source = kernel.source.summary
    session.__doc__ = f"Load and test the eBPF on {kernel.id} ({source}, {kernel.arch})"
    name = f"{_PREFIX}{kernel.id}"
    architecture = ARCHITECTURES[kernel.arch]
    tags = dict.fromkeys(("kernels", kernel.arch, architecture.debian))
    nox.session(
        name=name, venv_backend="none", default=False, allow_parallel=True, tags=list(tags)
    )(session)


def _register_matrix(project: Project) -> None:
    config = project.config

    @nox.session(venv_backend="none", tags=["matrix"])
    def matrix(session: nox.Session) -> None:
        _run_several(session, project, config.matrix_ids)

    @nox.session(name="pre-push", venv_backend="none", default=False, tags=["pre-push"])
    def pre_push(session: nox.Session) -> None:
        _run_several(session, project, config.pre_push_ids, pushes=True)

    matrix.__doc__ = f"Load and test the eBPF on {', '.join(config.matrix_ids)}, side by side"
    ids = ", ".join(config.pre_push_ids)
    pre_push.__doc__ = f"The same before a push, on {ids}: only where anything changed"


def _register_verify(project: Project) -> None:
    @nox.session(venv_backend="none", default=False, tags=["verify"])
    def verify(session: nox.Session) -> None:
        from bpfmatrix.cli.tasks.verify import VERIFY_OPTIONS, verify_project

        values = parse(session.name, VERIFY_OPTIONS, session.posargs, options.OBJECTS)
        problems: list[str] = []

        def command() -> int:
            status = verify_project(project, values)
            problems.extend(["some files can't be loaded: see above"] if status == 2 else [])
            return status

        with interrupts.raised():
            _end(session, exit_status_of(command), problems)

    ids = ", ".join(project.config.matrix_ids)
    verify.__doc__ = f"Load the eBPF objects on {ids}, and show what the verifier says"


@interrupts.raised()
def _run_several(
    session: nox.Session, project: Project, default: Sequence[str], *, pushes: bool = False
) -> None:
    values = parse(session.name, MATRIX_OPTIONS, session.posargs)
    cached = (pushes or values[options.CACHED]) and not values[options.FRESH]
    with exit_with_message():
        project, ids = several_kernels(project, values, default)
    _run(session, project, ids, values, cached=cached, pushes=pushes)


@interrupts.raised()
def _run(
    session: nox.Session,
    project: Project,
    ids: Sequence[str],
    values: Values,
    *,
    cached: bool = False,
    pushes: bool = False,
) -> None:
    from bpfmatrix.cli.run import run_chosen
    from bpfmatrix.payload.tracked_objects import require_unchanged

    problems: list[str] = []

    def command() -> int:
        choice, asked = chosen(project, values), run_options(values, project, cached=cached)
        jobs, raw = values[options.JOBS], values[options.RAW]
        found = run_chosen(project, ids, choice, asked, jobs, raw, again_of(values))
        problems.extend(found.problems)
        if pushes:
            require_unchanged(project.root)
        return found.exit_status

    _end(session, exit_status_of(command), problems)


def _end(session: nox.Session, status: int, problems: Sequence[str] = ()) -> None:
    """End a session as its command ended; sessions that wait run, unless the words are wrong."""
    if problems or status == 1:
        session.error(", ".join(problems) or "not all is well: see above")
    if status:
        raise SystemExit(status)


def parse(
    session: str,
    declared: Sequence[AnyOption],
    words: Sequence[str],
    positional: AnyOption | None = None,
) -> Values:
    """Read a session's options; a mistake is printed, and ends the process with status 2.

    Words that are no options are the values of `positional`, or else arguments of the tests.
    """
    parser = argparse.ArgumentParser(prog=f"nox -s {session} --")
    for option in declared:
        names = [f"-{option.letter}"] if option.letter else []
        # argparse formats the help text with the operator `%`.
        help = option.help.replace("%", "%%")
        if option.kind is OptionKind.FLAG:
            parser.add_argument(*names, f"--{option.name}", action="store_true", help=help)
        else:
            action = "append" if option.kind is OptionKind.REPEATED else "store"
            parser.add_argument(
                *names, f"--{option.name}", action=action, metavar=option.metavar, help=help
            )
    parser.add_argument(
        "arguments",
        nargs="*",
        metavar=positional.metavar if positional else "ARGUMENT",
        help=positional.help
        if positional
        else "After a further --: an argument of each test binary.",
    )
    typed = {
        name.replace("_", "-"): value for name, value in vars(parser.parse_args(words)).items()
    }
    if positional:
        typed[positional.name] = (typed[positional.name] or []) + typed["arguments"]
        typed["arguments"] = []
    with exit_with_message():
        return read(declared, typed, typed["arguments"])

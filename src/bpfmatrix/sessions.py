"""The nox sessions of a project with a kernels.yaml: its noxfile.py calls `register`.

One session for each kernel, `kernel-<id>`, and one for all of them, `matrix`.
"""

import logging
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

from bpfmatrix.cli.options import kernel_ids, options, parse, reported, with_available
from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.config.project import Project
from bpfmatrix.virtiofs import shares

__all__ = ["register"]

_PREFIX = "kernel-"


def register(root: Path | None = None) -> None:
    """Make the sessions of the project in `root` (default: the working directory, nox's own)."""
    # nox (2026.10) says so of every run, also of sessions that have no environment.
    logging.getLogger("nox").addFilter(lambda record: record.msg != "uv binary not found.")
    with reported():
        project = Project.load(root)
        own = _own_sessions(sys._getframe(1).f_code.co_filename)
        _refuse_unknown_kernels(project.config, [word for word in sys.argv[1:] if word not in own])
    for id in project.config.kernels:
        _register_kernel(project, project.config.kernel(id))
    _register_matrix(project)


def _own_sessions(noxfile: str) -> set[str]:
    """Return the names of sessions that a noxfile may define below, such as `kernel-build`.

    They are no functions' names, which have no hyphen, and so stand there in quotes.
    """
    text = Path(noxfile).read_text(encoding="utf-8", errors="replace")
    return set(re.findall(rf"""["']({_PREFIX}[^"'\s]+)["']""", text))


def _refuse_unknown_kernels(config: Config, words: Sequence[str]) -> None:
    """Say which kernels there are: nox only says that there is no such session."""
    named = [word.removeprefix(_PREFIX) for word in words if word.startswith(_PREFIX)]
    for id in named:
        config.kernel(id)  # raises UsageError


def _register_kernel(project: Project, kernel: KernelConfig) -> None:
    def session(session: nox.Session) -> None:
        _run(session, project, [kernel.id])

    session.__doc__ = f"Load and test the eBPF on {kernel.id} ({_source(kernel)}, {kernel.arch})"
    name = f"{_PREFIX}{kernel.id}"
    nox.session(name=name, venv_backend="none", default=False, allow_parallel=True)(session)


def _register_matrix(project: Project) -> None:
    @nox.session(venv_backend="none")
    def matrix(session: nox.Session) -> None:
        _run(session, project, None)

    @nox.session(name="pre-push", venv_backend="none", default=False)
    def pre_push(session: nox.Session) -> None:
        _run(session, project, None)

    config, ids = project.config, ", ".join(project.config.pre_push_ids)
    matrix.__doc__ = f"Load and test the eBPF on {', '.join(config.matrix_ids)}, side by side"
    pre_push.__doc__ = f"The same before a push, on {ids}: only where anything changed"


def _run(session: nox.Session, project: Project, ids: list[str] | None) -> None:
    from bpfmatrix.cli.run import run_tests  # noqa: PLC0415 - keeps `nox -l` fast
    from bpfmatrix.results.kernel_run import exit_status  # noqa: PLC0415

    words, before_push = parse(session.name, session.posargs), session.name == "pre-push"
    default = project.config.pre_push_ids if before_push else project.config.matrix_ids
    with reported():
        if ids is None and words.available:
            project, default = with_available(project, words.kernels)
        chosen = ids or kernel_ids(project.config, words.kernels, default)
        cached = ids is None and (words.cached or before_push) and not words.fresh
        asked = options(
            *(words.run, words.binary, words.timeout, words.arguments, words.cold, cached),
            files=shares.parse_options(words.rootfs, words.share),
            net=words.net,
            core=words.core,
        )
        runs = run_tests(project, chosen, asked, getattr(words, "jobs", None))
    if exit_status(runs) != 0:
        bad = [f"{run.kernel} {run.outcome}" for run in runs if run.outcome != "passed"]
        session.error(", ".join(bad))


def _source(kernel: KernelConfig) -> str:
    return kernel.source.summary

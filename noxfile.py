"""bpfmatrix: load and test eBPF on many kernels, each in a throw-away QEMU machine.

Run one with `nox -s kernel-6.1`, with words for it behind `--`: `--run REGEX`, `--timeout 30s`,
`--binary PATH`. Further tasks: `invoke -l`.
"""

import nox

from bpfmatrix.sessions import register

nox.options.default_venv_backend = "none"

register()


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Run this project's own tests; `-- -m "not integration"` for those that boot nothing."""
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Check this project's own code, in all of its languages."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("shellcheck", "--shell=dash", "bootstrap", "src/bpfmatrix/guest/init", ".ci/run")
    session.run("invoke", "docs", "--check")
    session.run("make", "--no-print-directory", "lint", external=True)

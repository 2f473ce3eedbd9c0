"""bpfmatrix: load and test eBPF on many kernels, each in a throw-away QEMU machine.

Run one with `nox -s kernel-6.1`, with words for it behind `--`: `--run REGEX`, `--timeout 30s`,
`--binary PATH`. Further tasks: `invoke -l`.
"""

import sys

import nox

from bpfmatrix.sessions import register

nox.options.default_venv_backend = "none"

register()


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Run this project's own tests; `-- -m "not integration"` for those that boot nothing."""
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure how fast it is, and write docs/performance.md; `-- --runs 5`."""
    session.run(sys.executable, "-m", "benchmarks", *session.posargs)


@nox.session(name="kernel-build", default=False)
def kernel_build(session: nox.Session) -> None:
    """Build a whole kernel from a server with kernel.org's layout (tests/long)."""
    session.run("pytest", "tests/long/kernel_build.py", *session.posargs)


@nox.session(default=False)
def debug(session: nox.Session) -> None:
    """Stop in a Debian kernel's verifier, with its source; fetches 420 MB (tests/long)."""
    session.run("pytest", "tests/long/debug_with_source.py", *session.posargs)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Check this project's own code, in all of its languages."""
    failed = [" ".join(command) for command in CHECKS if not _passes(session, command)]
    if failed:
        session.error("; ".join(failed))


CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("shellcheck", "--shell=dash", "bootstrap", ".ci/run", "src/bpfmatrix/guest/init"),
    ("invoke", "docs", "--check"),
    ("make", "--no-print-directory", "-C", "ebpf", "check-format"),
    ("gofmt", "-d", "support"),
    ("go", "vet", "-C", "support", "./..."),
    ("go", "vet", "-C", "support", "-tags", "integration", "./..."),
)


def _passes(session: nox.Session, command: tuple[str, ...]) -> bool:
    try:
        # What it prints is shown all the same if it fails.
        said = session.run(*command, silent=True)
    except nox.command.CommandFailed:
        return False
    # gofmt ends with 0 where it would change something, and prints that.
    if command[0] != "gofmt" or not said:
        return True
    session.warn(said)
    return False

"""bpfmatrix: load and test eBPF on many kernels, each in a throw-away QEMU machine.

Test one kernel with `nox -s kernel-6.1`. Options follow after `--`, such as `-- --run REGEX`;
`nox -s kernel-6.1 -- --help` lists them. `invoke -l` lists tasks for everything else.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import nox

from bpfmatrix.sessions import register

nox.options.default_venv_backend = "none"

register()


# The markers of tests that have a session of their own, below.
_OTHERS = ("architectures", "aya", "clocks", "middle", "projects", "runners", "vendors")
OF_TESTS = " and ".join(f"not {marker}" for marker in _OTHERS)


@nox.session(default=False)
def tests(session: nox.Session) -> None:
    """Run this project's own tests; `-- -m "not integration"` for those that boot nothing."""
    _install_node_packages(session)
    # A guest takes one core under emulation. The tests of a file share what they build and boot.
    spread = () if session.posargs else ("-n", "auto", "--dist", "loadfile")
    session.run("pytest", *spread, "-m", OF_TESTS, *session.posargs)


@nox.session(default=False)
def aya(session: nox.Session) -> None:
    """Build `verify`'s loader for aya, and test it on real kernels; needs cargo."""
    session.run("pytest", "-m", "aya", "tests/payload", "tests/integration", *session.posargs)


@nox.session(default=False)
def middle(session: nox.Session) -> None:
    """Run tests on kernels between the oldest and the newest, which `tests` leaves out."""
    session.run("pytest", "-m", "middle and not aya", "tests/integration", *session.posargs)


@nox.session(default=False)
def projects(session: nox.Session) -> None:
    """Run the projects of docs/examples, and suites of pytest and GoogleTest, on real kernels."""
    # The one with aya needs cargo, as the session `aya` does.
    session.run("pytest", "-m", "projects and not aya", "tests/integration", *session.posargs)


@nox.session(default=False)
def architectures(session: nox.Session) -> None:
    """Run tests on riscv64, s390x, ppc64el, and arm64 with 16 KB pages; fetches 350 MB."""
    session.run("pytest", "-m", "architectures", "tests/integration", *session.posargs)


@nox.session(default=False)
def clocks(session: nox.Session) -> None:
    """Compare the clocks of guests with each other; needs a host that does nothing else."""
    session.run("pytest", "-m", "clocks", "tests/integration", *session.posargs)


@nox.session(default=False)
def runners(session: nox.Session) -> None:
    """Read what real test runners print; needs bats, libgtest-dev, catch2 and rustc."""
    session.run("pytest", "-m", "runners", "tests/suite", *session.posargs)


@nox.session(default=False)
def vendors(session: nox.Session) -> None:
    """Boot Debian's flavours, and its kernel packed as other vendors do; fetches 400 MB."""
    session.run("pytest", "-m", "vendors", "tests/integration", *session.posargs)


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
    """Stop in the verifiers of Debian's kernels, with source; fetches 2.5 GB (tests/long)."""
    files = ("tests/long/debug_with_source.py", "tests/long/debug_programs.py")
    session.run("pytest", *files, *session.posargs)


@nox.session(default=False)
def tools(session: nox.Session) -> None:
    """Use perf, bpftrace and bpftool on the oldest and the newest kernel, and on arm64."""
    session.run("pytest", "tests/long/tools.py", *session.posargs)


@nox.session(name="profile-pythons", default=False)
def profile_pythons(session: nox.Session) -> None:
    """Profile scripts of each version of Python on three kernels; fetches 60 MB (tests/long)."""
    session.run("pytest", "tests/long/pythons.py", *session.posargs)


@nox.session(name="kernels-registry", default=False)
def kernels_registry(session: nox.Session) -> None:
    """Run five kernels that a registry alone has; fetches 150 MB (tests/long)."""
    session.run("pytest", "tests/long/kernels_from_registry.py", *session.posargs)


@nox.session(default=False)
def fresh(session: nox.Session) -> None:
    """Run the README's commands on new machines of Debian 12 and 13, as root: takes an hour."""
    # Ctrl-C leaves it the time to remove these machines.
    session.run(
        *(sys.executable, "-m", "tests.fresh", *session.posargs),
        interrupt_timeout=120,
        terminate_timeout=120,
    )


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Run many random machines and compare each verdict (tests/soak); `-- --runs 1000 --seed 7`."""
    # Ctrl-C leaves it the time to end its machines.
    session.run(
        *(sys.executable, "-m", "tests.soak", *session.posargs),
        interrupt_timeout=60,
        terminate_timeout=60,
    )


PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# A release's checksums are those of these files.
DIST = Path("dist")


@nox.session(python=PYTHONS, venv_backend="uv", default=False)
def pythons(session: nox.Session) -> None:
    """Run the tests that boot nothing with each Python, which has to be on PATH."""
    groups = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "dev")
    session.install("--editable", ".", *groups)
    # What the wheel has inside does not depend on the Python that builds it.
    session.run(
        *("pytest", "-n", "auto", "--dist", "loadfile", "-m", f"{OF_TESTS} and not integration"),
        *("--ignore", "tests/test_wheel.py", *session.posargs),
    )


BYTECODE_LINES_PYTHONS = ("3.8", "3.9", "3.10", *PYTHONS)


@nox.session(name="bytecode-lines", python=BYTECODE_LINES_PYTHONS, venv_backend="uv", default=False)
def bytecode_lines(session: nox.Session) -> None:
    """Run the tests of bytecode-lines alone with each Python, which has to be on PATH."""
    folder = Path(session.create_tmp()).resolve()
    session.chdir("bytecode-lines")
    groups = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test")
    # The wheel is built once: each of these installs the same one.
    shutil.rmtree(folder)
    session.run("uv", "build", "--wheel", "--python", sys.executable, "--out-dir", str(folder))
    [wheel] = folder.glob("*.whl")
    session.install(str(wheel), *groups)
    session.run("bytecode-lines", "lines", "tests/fixtures/traps.3.14.pyc", silent=True)
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def installs(session: nox.Session) -> None:
    """Install the wheel by uv and by pipx without a network, and test a kernel (tests/long)."""
    session.run("pytest", "tests/long/installs.py", *session.posargs)


@nox.session(default=False)
def dist(session: nox.Session) -> None:
    """Build and check what a release has, in dist/; `-- --tag v1.2.3` for that release."""
    # What needs no build is checked first.
    session.run("python", "-m", "release", "check", *session.posargs)
    shutil.rmtree(DIST, ignore_errors=True)
    # The wheel is built from the sdist, in an environment of build-system.requires alone.
    for folder in (".", "bytecode-lines"):
        session.run("uv", "build", "--python", sys.executable, "--out-dir", str(DIST), folder)
    (DIST / ".gitignore").unlink(missing_ok=True)
    files = [str(path) for path in sorted(DIST.iterdir())]
    session.run("twine", "check", "--strict", *files)
    for wheel in DIST.glob("*.whl"):
        name = wheel.name.partition("-")[0]
        session.run("check-wheel-contents", "--toplevel", name, str(wheel))
    session.run("python", "-m", "release", "check", *session.posargs, str(DIST))
    session.run("python", "-m", "release", "sbom", str(DIST))
    session.run("python", "-m", "release", "checksums", str(DIST))


@nox.session(default=False)
def site(session: nox.Session) -> None:
    """Show the documentation as a site, and follow changes; `-- build` only writes it."""
    session.run("mkdocs", *(session.posargs or ("serve",)), env=NO_ADVERTISEMENT)


@nox.session(default=False)
def lint(session: nox.Session) -> None:
    """Check this project's own code, in all of its languages."""
    _install_node_packages(session)
    _install_actionlint(session)
    checks = [*CHECKS, *_rust_checks(session)]
    failed = [" ".join(command) for command in checks if not _passes(session, command)]
    if failed:
        session.error("; ".join(failed))


_CI_TEMPLATES = "src/bpfmatrix/scaffold/templates/ci"
CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("lint-imports", "--no-cache"),
    (
        *("shellcheck", "--shell=dash", "bootstrap", ".ci/run", "src/bpfmatrix/guest/init"),
        *("tests/fresh/enter.sh", "ci/github/steps"),
    ),
    ("shellcheck", "src/bpfmatrix/cli/completion/completion.bash", "--shell=bash"),
    # Files of CI. actionlint also gives the scripts of workflows to shellcheck.
    ("actionlint",),
    ("actionlint", f"{_CI_TEMPLATES}/github.yml"),
    ("check-jsonschema", "--builtin-schema", "vendor.github-actions", "action.yml"),
    (
        *("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci"),
        *("ci/gitlab/bpfmatrix.yml", f"{_CI_TEMPLATES}/gitlab.yml"),
    ),
    ("zizmor", "--offline", "--quiet", "."),
    ("hadolint", "Dockerfile"),
    ("invoke", "docs", "--check"),
    ("validate-pyproject", "pyproject.toml", "bytecode-lines/pyproject.toml"),
    # 10 would need the mail address of an author.
    ("pyroma", "--min", "9", "."),
    ("python", "-m", "release", "check"),
    ("mkdocs", "build", "--strict", "--quiet"),
    ("node_modules/.bin/biome", "ci", "--error-on-warnings"),
    ("make", "--no-print-directory", "-C", "ebpf", "check-format"),
    ("gofmt", "-d", "support", "tests/integration/hostile", "tests/soak/go", "docs/examples"),
    ("go", "vet", "-C", "support", "./..."),
    ("go", "vet", "-C", "support", "-tags", "integration", "./..."),
    ("go", "vet", "-C", "tests/integration/hostile", "./..."),
    ("go", "vet", "-C", "tests/soak/go", "./..."),
    ("go", "vet", "-C", "docs/examples/testdata", "./..."),
    ("go", "vet", "-C", "docs/examples/race", "./..."),
)
# mkdocs-material prints a paragraph about mkdocs 2, in red, unless this is set.
NO_ADVERTISEMENT = {"NO_MKDOCS_2_WARNING": "1"}


_VERSION_OF_ACTIONLINT = "v1.7.12"
_AYA = "support/loaders/aya"
RUST_CHECKS = (
    ("cargo", "fmt", "--check", "--manifest-path", "docs/examples/aya/Cargo.toml"),
    ("cargo", "fmt", "--check", "--manifest-path", f"{_AYA}/Cargo.toml"),
    (
        *("cargo", "clippy", "--quiet", "--locked", "--ignore-rust-version", "--all-targets"),
        *("--manifest-path", f"{_AYA}/Cargo.toml", "--config", f"{_AYA}/.cargo/config.toml"),
        *("--", "-D", "warnings"),
    ),
)


def _rust_checks(session: nox.Session) -> tuple[tuple[str, ...], ...]:
    """Return the checks of what is written in Rust; where there is no Rust, say so and skip them.

    Nothing else needs Rust: the loader for aya is optional.
    """
    if shutil.which("cargo-clippy") and shutil.which("cargo-fmt"):
        return RUST_CHECKS
    session.warn("cargo, clippy or rustfmt is missing: support/loaders/aya is not checked.")
    return ()


def _install_node_packages(session: nox.Session) -> None:
    """Install Biome, axe-core and speedscope as package-lock.json pins them, unless that is done.

    If that is impossible, say why. Only the checks that need them fail then.
    """
    # npm writes this file when an installation is complete.
    installed = Path("node_modules/.package-lock.json")
    pinned = Path("package-lock.json")
    if installed.exists() and installed.stat().st_mtime >= pinned.stat().st_mtime:
        return
    if shutil.which("npm") is None:
        session.warn(
            "Biome, axe-core and speedscope, which check the HTML report and profiles, are not "
            "installed, and npm is missing. Install npm (on Debian, `./bootstrap -s "
            f"{session.name}` does), and run `nox -s {session.name}` again."
        )
    elif not _passes(session, ("npm", "ci", "--no-audit", "--no-fund")):
        session.warn("npm could not install Biome, axe-core and speedscope: see its message above.")


def _install_actionlint(session: nox.Session) -> None:
    """Install actionlint beside this Python, unless it is there. Go's checksum database checks it.

    Its package on PyPI fetches the program from GitHub while it is installed. Go's module comes
    from where the modules of support/ come from.
    """
    folder = Path(sys.executable).parent
    if _VERSION_OF_ACTIONLINT in _said(folder / "actionlint", "-version"):
        return
    module = f"github.com/rhysd/actionlint/cmd/actionlint@{_VERSION_OF_ACTIONLINT}"
    if not _passes(session, ("go", "install", module), GOBIN=str(folder)):
        session.warn("Go could not install actionlint: see its message above.")


def _said(program: Path, *words: str) -> str:
    """Return what a program prints; nothing if it is not there."""
    if not program.exists():
        return ""
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)
    return done.stdout


def _passes(session: nox.Session, command: tuple[str, ...], **environment: str) -> bool:
    try:
        # What it prints is shown all the same if it fails.
        said = session.run(*command, silent=True, env={**NO_ADVERTISEMENT, **environment})
    except nox.command.CommandFailed:
        return False
    # gofmt ends with 0 where it would change something, and prints that.
    if command[0] != "gofmt" or not said:
        return True
    session.warn(said)
    return False

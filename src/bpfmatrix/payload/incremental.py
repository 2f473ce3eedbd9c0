"""What the builds of the payload share: each runs only if what it reads has changed.

A build leaves a record of what it read (`stamp`); the next one compares. A lock keeps two runs in
one checkout from building at the same time.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.project import Project
from bpfmatrix.errors import BuildError
from bpfmatrix.host.locks import locked
from bpfmatrix.host.process import run_merged, run_split

__all__ = ["BuiltFiles", "build_lock", "run", "run_for_output", "stamp"]

_SHOWN_LINES = 40


@dataclass(frozen=True)
class BuiltFiles:
    """Files that are now up to date, and whether anything had to be done for that."""

    files: tuple[Path, ...]
    changed: bool


def build_lock(project: Project) -> contextlib.AbstractContextManager[None]:
    """Return a lock that keeps two runs in one checkout from building at once."""
    return locked(project.state / "build.lock")


def run(command: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> None:
    """Run a compiler in a folder, with further environment variables.

    BuildError has the first lines of what a command that fails prints.
    """
    done = run_merged(command, folder, env)
    if done.returncode != 0:
        raise _failed(command, folder, done.stdout)


def run_for_output(command: Sequence[str], folder: Path, env: dict[str, str] | None = None) -> str:
    """Run a command like `run`, and return its standard output."""
    done = run_split(command, folder, env)
    if done.returncode != 0:
        raise _failed(command, folder, done.stderr)
    return done.stdout


def _failed(command: Sequence[str], folder: Path, said: str) -> BuildError:
    lines = said.strip().splitlines()
    more = [f"... {len(lines) - _SHOWN_LINES} lines more"] if len(lines) > _SHOWN_LINES else []
    name = Path(command[0]).name
    return BuildError(
        "\n  ".join((f"{name} failed in {folder.name}:", *lines[:_SHOWN_LINES], *more))
    )


def stamp(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return the path, size in bytes and modification time in nanoseconds of each file, sorted."""
    stats = ((str(path), path.stat()) for path in sorted(files))
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]

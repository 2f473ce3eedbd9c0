"""The extra files of the payload, beside tests and objects: `payload.files` and `payload.listed`.

Both functions give the path of each file on the host, by its path below the payload's mount point.
"""

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bpfmatrix.config.project import Project
from bpfmatrix.config.value_types import is_relative_path
from bpfmatrix.errors import BuildError, PayloadError
from bpfmatrix.host import records
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.progress import Progress, silent

__all__ = ["listed", "named"]


def named(root: Path, files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files at these paths, which are relative to `root`, and all files below folders.

    Symbolic links are followed. Empty folders are left out. PayloadError if a path is neither a
    file nor a folder, or can't be read, or if a link leads to a folder that it is in.
    """
    found: dict[str, Path] = {}
    for place, path in files.items():
        for below, file in _below(root / path, ()):
            _put(found, f"{place}/{below}" if below else place, file)
    return found


def _below(path: Path, above: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    try:
        kind = path.stat().st_mode
    except OSError as error:
        raise PayloadError(f"{path} can't be read: {error.strerror}") from error
    if stat.S_ISREG(kind):
        yield "", path
    elif stat.S_ISDIR(kind):
        here = path.resolve()
        if here in above:
            raise PayloadError(f"{path} leads back to {here}, in which it lies", "Remove the link.")
        for inner in sorted(path.iterdir()):
            for below, file in _below(inner, (*above, here)):
                yield f"{inner.name}/{below}" if below else inner.name, file
    else:
        raise PayloadError(f"{path} is neither a file nor a folder")


def _put(found: dict[str, Path], place: str, path: Path) -> None:
    if not is_relative_path(place):
        raise PayloadError(
            f"{path}: {place!r} can't be a file's place in the payload", "Rename it."
        )
    if found.setdefault(place, path) != path:
        raise PayloadError(
            f"{path} and {found[place]} would both be {place} in the payload", "Rename one of them."
        )


def listed(
    project: Project, commands: Mapping[str, Sequence[str]], arch: str, progress: Progress = silent
) -> dict[str, Path]:
    """Return the files that these commands list for a guest of this architecture.

    A command is only run again if its words, its environment (PATH and BPFMATRIX_*), a file among
    its words or a file that it listed has changed. BuildError if a command fails, with what it
    wrote to standard error; PayloadError if what it prints is not a list of files.
    """
    found: dict[str, Path] = {}
    for folder, command in commands.items():
        for place, path in _listing(project, command, arch, progress):
            _put(found, f"{folder}/{place}", path)
    return found


def _listing(
    project: Project, command: Sequence[str], arch: str, progress: Progress
) -> list[tuple[str, Path]]:
    env = {k: v for k, v in os.environ.items() if k == "PATH" or k.startswith("BPFMATRIX_")}
    key = [list(command), arch, sorted(env.items())]
    name = key_of(key)[:16]
    record = project.state / "build" / "listed" / f"{name}.json"
    words = [project.root / word for word in command]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = records.read(record) or {}
        files = [(place, Path(path)) for place, path in known["files"]]
        if known["stamps"] == _stamps(words, files):
            return files
    progress(" ".join(command))
    files = list(_run(project.root, command, arch))
    record.parent.mkdir(parents=True, exist_ok=True)
    try:
        stamps = _stamps(words, files)
    except OSError as error:
        raise PayloadError(
            f"{command[0]} listed {error.filename}, which can't be read: {error.strerror}"
        ) from error
    names = [(place, str(path)) for place, path in files]
    records.write(record, {"files": names, "stamps": stamps})
    return files


def _stamps(words: Sequence[Path], files: Sequence[tuple[str, Path]]) -> list[Any]:
    scripts = [path.stat() for path in words if path.is_file()]
    return [[s.st_size, s.st_mtime_ns] for s in (*scripts, *(path.stat() for _, path in files))]


def _run(root: Path, command: Sequence[str], arch: str) -> Iterator[tuple[str, Path]]:
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "BPFMATRIX_ARCH": arch},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
    except OSError as error:
        raise BuildError(f"{command[0]} can't be run: {error.strerror}") from error
    if done.returncode != 0:
        said = "\n  ".join((f"{' '.join(command)} failed:", *done.stderr.strip().splitlines()))
        raise BuildError(said)
    for line in done.stdout.splitlines():
        place, tab, path = line.partition("\t")
        if not tab or not is_relative_path(place) or not (root / path).is_file():
            raise PayloadError(
                f"{' '.join(command)} printed {line!r}",
                "Each line must be a path in the payload, a tab, and the path of a file here.",
            )
        yield place, root / path

"""The files of a project, as far as `init` looks at them: their paths, and the heads of some.

Files that git tracks or does not ignore are listed, and ignored ones in folders where builds put
what they make. Without git, all files below the folder are.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from bpfmatrix.host.git import Git

__all__ = ["HEAD_BYTES", "Tree", "default_branch", "folder_in_repository", "folder_of", "look_at"]

HEAD_BYTES = 1 << 18
"""How much of a file is read: sources and build files are smaller."""
_LIMIT = 200_000
# Folders of other people's files, and those that tools keep beside the sources.
_SKIPPED = frozenset(
    {".git", ".hg", ".bpfmatrix", ".nox", ".tox", ".venv", "venv", "__pycache__"}
    | {"node_modules", "vendor", ".cache", ".direnv", ".cargo", ".gradle"}
)
# What cargo keeps below target/<profile>/ besides its results.
_CARGO_PARTS = frozenset({"deps", "incremental", ".fingerprint"})


@dataclass(frozen=True)
class Tree:
    """The files below one folder."""

    root: Path
    files: tuple[str, ...]
    """Their paths relative to the root, with `/`, sorted."""
    built: frozenset[str] = frozenset()
    """Those that git ignores."""
    unreadable: tuple[str, ...] = ()
    """Folders that could not be read."""
    cut: bool = False
    """Whether there are more files than were listed."""

    @cached_property
    def by_folder(self) -> dict[str, tuple[str, ...]]:
        """The names of the files in each folder; the root is `.`."""
        found: dict[str, list[str]] = {}
        for path in self.files:
            folder, _, name = path.rpartition("/")
            found.setdefault(folder or ".", []).append(name)
        return {folder: tuple(names) for folder, names in found.items()}

    def named(self, *names: str) -> list[str]:
        """Return the paths of files with one of these names."""
        return [path for path in self.files if path.rpartition("/")[2] in names]

    def ending(self, *ends: str) -> list[str]:
        """Return the paths of files whose names have one of these ends."""
        return [path for path in self.files if path.endswith(ends)]

    def head(self, path: str, size: int = HEAD_BYTES) -> bytes:
        """Return the first bytes of a file; nothing if it can't be read."""
        try:
            if not (self.root / path).is_file():  # a pipe would block
                return b""
            with (self.root / path).open("rb") as file:
                return file.read(size)
        except OSError:
            return b""

    def text(self, path: str) -> str:
        """Return the head of a file as text."""
        return self.head(path).decode(errors="replace")

    def is_executable(self, path: str) -> bool:
        """Whether it is a file with permission to be executed."""
        return (self.root / path).is_file() and os.access(self.root / path, os.X_OK)


def folder_of(path: str) -> str:
    """Return the folder of a path; `.` for one without a `/`."""
    return path.rpartition("/")[0] or "."


def look_at(root: Path) -> Tree:
    """List the files below a folder. What can't be read is left out."""
    unreadable: list[str] = []

    def refused(error: OSError) -> None:
        unreadable.append(os.path.relpath(error.filename or root, root))

    git, others = Git(root), ("ls-files", "-z", "--others")
    listed = git.paths(*others, "--cached", "--exclude-standard")
    if listed is None:
        found, built = list(_walk(root, root, refused)), frozenset[str]()
    else:
        ignored = git.paths(*others, "--ignored", "--exclude-standard", "--directory")
        built = frozenset(_below(root, ignored or (), refused))
        found = [path for path in listed if not _is_skipped(path)] + sorted(built)
    return Tree(
        root,
        tuple(sorted({path for path in found[:_LIMIT] if _is_text(path)})),
        built,
        tuple(sorted(set(unreadable))),
        cut=len(found) > _LIMIT,
    )


def default_branch(root: Path) -> str:
    """Return the branch that the remote repository's HEAD is, or the current one; else `main`."""
    git = Git(root)
    remote = git.line("symbolic-ref", "--short", "refs/remotes/origin/HEAD")
    own = git.line("symbolic-ref", "--short", "HEAD")
    return remote.removeprefix("origin/") or own or "main"


def folder_in_repository(root: Path) -> str:
    """Return the path of a folder in its repository of git; empty for the top folder, or no git."""
    return Git(root).line("rev-parse", "--show-prefix").rstrip("/")


def _below(root: Path, entries: Iterable[str], refused: Callable[[OSError], None]) -> Iterator[str]:
    """Give the files among git's entries, and those in its folders, which end in a slash."""
    for entry in entries:
        if _is_skipped(entry):
            continue
        if entry.endswith("/"):
            yield from _walk(root, root / entry, refused)
        else:
            yield entry


def _walk(root: Path, folder: Path, refused: Callable[[OSError], None]) -> Iterator[str]:
    # Links to folders are not followed, so that no loop of them is endless.
    count = 0
    for parent, folders, names in os.walk(folder, onerror=refused):
        folders[:] = sorted(
            name
            for name in folders
            if name not in _SKIPPED
            and not (name in _CARGO_PARTS and "target" in Path(parent).parts)
        )
        for name in names:
            count += 1
            yield Path(parent, name).relative_to(root).as_posix()
        if count > _LIMIT:
            return


def _is_text(path: str) -> bool:
    """Whether a path can be written in kernels.yaml: the name of a file may be any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_skipped(path: str) -> bool:
    return not _SKIPPED.isdisjoint(PurePosixPath(path).parts)

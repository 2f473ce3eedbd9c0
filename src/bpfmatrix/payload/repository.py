"""The repository's files: tests find them in the guest at the same path as on the host.

`of_project` lists those that git knows, or those of the project's folder if that is in no
repository of git. The payload's disk brings them to the guest.
"""

import contextlib
import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bpfmatrix.config.project import Project
from bpfmatrix.errors import PayloadError
from bpfmatrix.host import records
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import RunningSha256, key_of, sha256_of_open
from bpfmatrix.host.git import Git
from bpfmatrix.host.integrity import Identity, touch
from bpfmatrix.host.text import counted

__all__ = ["LIMIT_BYTES", "Repository", "of_project"]

LIMIT_BYTES = 512 << 20
"""How large the files may be together: the guest's disk is made again when one of them changes."""
_NAMED = 5
# Folders that no test reads: what tools leave beside the sources.
_LEFT_OUT = frozenset({".git", ".hg", ".bpfmatrix", ".nox", ".tox", ".venv", "__pycache__"})


@dataclass(frozen=True)
class Repository:
    """Files and symbolic links, which the guest has at the same paths as the host."""

    root: Path
    """The folder that all of them are in: absolute, and free of symbolic links."""
    files: tuple[str, ...]
    """Their paths relative to `root`, sorted."""
    stamp: str
    """A checksum of their paths, modes and identities, as `integrity` means it."""
    is_settled: bool = False
    """Whether each write to one of them, from when they were listed on, changes the stamp."""
    size_bytes: int = 0
    """The size of all of them together."""

    def contains(self, folder: Path) -> bool:
        """Whether a folder is the root, or below it."""
        return folder == self.root or self.root in folder.parents

    def checksum(self, cache: Cache, *, reread: bool = False) -> str:
        """Return the checksum of the content; the files are read only if their stamp is new."""
        record = cache.root / "payloads" / f"{key_of(['repository', str(self.root)])[:32]}.sources"
        known = (records.read(record) or {}) if not reread else {}
        if known.get("stamp") == self.stamp and isinstance(known.get("content"), str):
            touch(record)  # still in use: see Cache.prune_derived
            return str(known["content"])
        with self._unchanged():
            content = self._content()
        if self.is_settled:
            with contextlib.suppress(OSError):  # the files are read again each time
                record.parent.mkdir(parents=True, exist_ok=True)
                records.write(record, {"stamp": self.stamp, "content": content})
        return content

    def copy_to(self, folder: Path) -> str:
        """Copy the files to a folder; return the checksum of what was copied."""
        folder.mkdir()
        with self._unchanged():
            for name in self.files:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / name, target, follow_symlinks=False)
        return self._content(folder)

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """PayloadError if a file disappears meanwhile."""
        try:
            yield
        except FileNotFoundError as error:
            raise PayloadError(
                f"{error.filename} disappeared while the repository was packed", "Run it again."
            ) from error

    def _content(self, folder: Path | None = None) -> str:
        whole = RunningSha256()
        for name in self.files:
            path = (folder or self.root) / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                content = str(path.readlink())
            else:
                with path.open("rb", buffering=0) as file:
                    content = sha256_of_open(file)
            whole.update(os.fsencode(f"{name}\0{mode:o}\0{content}\n"))
        return whole.hexdigest()


def of_project(project: Project, patterns: Sequence[str] = ()) -> Repository:
    """Return the files of the repository that a project is in.

    `patterns` are git's (gitglossary(7), pathspec), relative to kernels.yaml: only files that match
    are listed. PayloadError if the files are too large, or if git can't list them.
    """
    root = _top(project.root)
    if root is None:
        if patterns:
            raise PayloadError(
                f"{project.root} is in no repository of git, so payload.repository must not "
                "name files",
                "Set payload.repository to true or false.",
            )
        root = project.root.resolve()
        names = tuple(sorted(_walk(root, "")))
    else:
        names = _known_to_git(project.root, root, patterns)
    now_ns = time.time_ns()
    found = {name: status for name in names if (status := _status(root / name)) is not None}
    # A tracked folder may have been replaced by a link: git then lists what is behind it, too.
    links = {name for name, status in found.items() if stat.S_ISLNK(status.st_mode)}
    if links:
        found = {
            name: status
            for name, status in found.items()
            if links.isdisjoint(map(str, PurePosixPath(name).parents))
        }
    size = sum(status.st_size for status in found.values())
    if size > LIMIT_BYTES:
        raise _too_large(root, found)
    stamp = key_of([(name, s.st_mode, *Identity.of(s)) for name, s in found.items()])
    is_settled = all(Identity.of(status).is_settled(now_ns) for status in found.values())
    return Repository(root, tuple(found), stamp, is_settled, size)


def _top(folder: Path) -> Path | None:
    """Return the folder with `.git` that a folder is in, if git is installed; else None."""
    if shutil.which("git") is None:
        return None
    here = folder.resolve()
    return next((path for path in (here, *here.parents) if (path / ".git").exists()), None)


def _known_to_git(folder: Path, root: Path, patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the files that git tracks or does not ignore, relative to `root`."""
    git = Git(folder)
    chosen = ["--", *patterns] if patterns else ["--", ":/"]
    lists = [["--cached", "--others", "--exclude-standard"]]
    if (root / ".gitmodules").exists():  # git lists these in a call of its own
        lists.append(["--cached", "--recurse-submodules"])
    names: set[str] = set()
    for options in lists:
        done = git.run("ls-files", "-z", "--full-name", *options, *chosen)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise PayloadError(
                f"git can't list the repository's files: {said}",
                "Correct payload.repository, or set it to false.",
            )
        names.update(os.fsdecode(name) for name in done.stdout.split(b"\0") if name)
    return tuple(sorted(names))


def _walk(root: Path, below: str) -> Iterator[str]:
    with os.scandir(root / below) as entries:
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _LEFT_OUT:
                    yield from _walk(root, path)
            else:
                yield path


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file or a link; None for what a disk can't carry, or what is gone."""
    try:
        found = path.lstat()
    except OSError:  # such as one that git tracks, and that was deleted
        return None
    return found if stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode) else None


def _too_large(root: Path, found: dict[str, os.stat_result]) -> PayloadError:
    parts: Counter[str] = Counter()
    for name, status in found.items():
        parts["/".join(name.split("/")[:2])] += status.st_size
    shown = ", ".join(f"{part} {size >> 20} MB" for part, size in parts.most_common(_NAMED))
    return PayloadError(
        f"the repository {root} has {counted(len(found), 'file')} with "
        f"{sum(parts.values()) >> 20} MB, and tests can have {LIMIT_BYTES >> 20} MB: {shown}",
        "Name what the tests need in payload.repository of kernels.yaml, such as [src, "
        '":!src/large"], or set it to false.',
    )

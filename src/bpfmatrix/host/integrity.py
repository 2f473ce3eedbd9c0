"""Whether a file's content is unchanged: by its checksum, or by its identity, unread.

A checksum is kept with the `Identity` that the file had when it was read. Every write changes the
identity, since no program can set a file's change time (`st_ctime`; utime(2) sets it to now). So a
file with the same identity has the same content, and one fstat(2) tells. A file with another
identity is read again.

What this can't see: bits that change on the disk below the file system, or in the page cache; a
write after which the host's clock was set back; and a write through a shared mapping into a page
that was writable already when the file was read. `reread` reads the file in any case, and sees the
first two.

`seal` keeps the checksum of one file in a record beside it, with which `damage` compares.
"""

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bpfmatrix.host import records, sparse
from bpfmatrix.host.checksum import sha256_of_open

__all__ = [
    "Checked",
    "Identity",
    "checked_files",
    "damage",
    "keep_checked",
    "mark_used",
    "measure",
    "record_of",
    "remove",
    "seal",
    "settle",
    "touch",
]

# Before Linux 6.13, the change time is that of the kernel's last tick: 10 ms ago at most
# (CONFIG_HZ=100). A second write within that time could leave it as it was, so a file that was
# changed this recently has no identity yet.
_TICK_NS = 20_000_000
# Some file systems keep whole seconds, such as ext4 with inodes of 128 bytes.
_SECOND_NS = 1_000_000_000


class Identity(NamedTuple):
    """What stat(2) tells of a file's content. Times are in nanoseconds since 1970."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, stat: os.stat_result) -> "Identity":
        """Return the identity in the result of stat(2)."""
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def is_settled(self, now_ns: int) -> bool:
        """Tell whether a write from now on changes the identity."""
        tick = _TICK_NS if self.changed_ns % _SECOND_NS else 2 * _SECOND_NS
        return self.changed_ns + tick <= now_ns


@dataclass(frozen=True)
class Checked:
    """The checksum of a file, and the identity that the file had, if that was settled."""

    sha256: str
    identity: Identity | None

    def to_json(self) -> list[Any]:
        """Return a list for a record."""
        return [self.sha256, *(self.identity or ())]

    @classmethod
    def from_json(cls, value: Any) -> "Checked":
        """Return what `to_json` was called on; ValueError or TypeError if it is no such list."""
        checksum, *identity = value
        return cls(str(checksum), Identity(*map(int, identity)) if identity else None)


def measure(
    path: Path, known: Checked | None = None, *, reread: bool = False, holes: bool = False
) -> Checked:
    """Return the checksum of a file; OSError if it can't be read.

    The file is not read if it has the identity of `known`, unless `reread`. The checksum is the
    SHA-256 of the file, or with `holes` that of `sparse.sha256_of_open`, which does not read holes.
    """
    # On NFS, only open(2) looks whether another host wrote to the file.
    with path.open("rb", buffering=0) as file:
        now_ns, before = time.time_ns(), Identity.of(os.fstat(file.fileno()))
        if known and known.identity == before and not reread:
            return known
        checksum = sparse.sha256_of_open(file.fileno()) if holes else sha256_of_open(file)
        after = Identity.of(os.fstat(file.fileno()))
    return Checked(checksum, before if before == after and before.is_settled(now_ns) else None)


def checked_files(record: Path) -> dict[str, Checked]:
    """Return what `keep_checked` kept, by the names of the files; empty if that can't be read."""
    data = records.read(record) or {}
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        return {name: Checked.from_json(value) for name, value in data["files"].items()}
    return {}


def keep_checked(record: Path, files: Mapping[str, Checked]) -> None:
    """Keep the checksums and identities of files for the next run; OSError if that fails."""
    records.write(record, {"files": {name: one.to_json() for name, one in files.items()}})


def settle(path: Path) -> None:
    """Wait until a file that was just made has an identity: 20 ms at most."""
    left = Identity.of(path.stat()).changed_ns + _TICK_NS - time.time_ns()
    time.sleep(min(max(left, 0), _TICK_NS) / 1e9)


def record_of(path: Path) -> Path:
    """Return the path of the record beside a file."""
    return path.with_name(f"{path.name}.check")


def seal(path: Path, *, holes: bool = False) -> None:
    """Record the content of a file that was just made; OSError if that fails."""
    settle(path)
    _write(path, measure(path, holes=holes))


def damage(path: Path, *, reread: bool = False, holes: bool = False) -> str:
    """Return what is wrong with a sealed file, in words that follow its name, or `""`.

    A file that was copied or restored from a backup has another identity and the same content: it
    is read once, and its record is written again.
    """
    data = records.read(record_of(path))
    try:
        known = Checked.from_json((data or {})["file"])
    except (KeyError, TypeError, ValueError):
        return "has no record of its content" if path.exists() else "is missing"
    try:
        found = measure(path, known, reread=reread, holes=holes)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    if found.sha256 != known.sha256:
        return "does not have the content that it was stored with"
    if found != known:
        with contextlib.suppress(OSError):  # the file is read again each time
            _write(path, found)
    return ""


def mark_used(path: Path) -> None:
    """Note that a sealed file is in use, for `Cache.prune_derived`.

    This is the modification time of its record: to set that of the file would change its identity.
    """
    touch(record_of(path))


def touch(path: Path) -> None:
    """Set the modification time of a record, or of a folder, to now, if that is possible."""
    with contextlib.suppress(OSError):
        os.utime(path)


def remove(path: Path) -> None:
    """Remove a sealed file and its record; OSError if that fails."""
    record_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _write(path: Path, checked: Checked) -> None:
    records.write(record_of(path), {"file": checked.to_json()})

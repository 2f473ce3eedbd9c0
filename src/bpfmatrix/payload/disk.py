"""The payload's disk: an ext4 image that the guest mounts at `/payload`.

`image` makes it, once for each content.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bpfmatrix.errors import PayloadError
from bpfmatrix.host import derived, ext4, records
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import RunningSha256, key_of
from bpfmatrix.host.integrity import checked_files, keep_checked, measure, remove, touch
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.payload.model import ID_FILE, REPOSITORY_FOLDER, Payload

__all__ = ["Disk", "image"]

# The image is sparse, so its size costs nothing. Nearly all payloads have the same size, so that a
# machine that was saved with one can be restored with another.
_IMAGE_BYTES = 1 << 30
_KEPT_IMAGES = 4


@dataclass(frozen=True)
class Disk:
    """The image of a payload. `id` is the checksum of its content, and the text of its `.id`."""

    image: Path
    id: str


def image(
    payload: Payload, cache: Cache, progress: Progress = silent, *, reread: bool = False
) -> Disk:
    """Return the ext4 image of a payload from the cache; it is made if it is missing or damaged.

    The payload's files and the image are only read if their identity changed since they were read
    last, unless `reread` (see `integrity`). PayloadError if a file changes while it is packed.
    """
    files = payload.files()
    checksums = _checksums(files, cache, reread=reread)
    repository = payload.repository
    tree = repository.checksum(cache, reread=reread) if repository else ""
    id = _digest(payload, checksums, tree)
    target = cache.root / "payloads" / f"{id}.ext4"

    def make(made: Path) -> None:
        with cache.staging() as folder:
            # mkfs.ext4 may give the image's root this folder's mode, which is 0700 for `folder`.
            root = folder / "root"
            root.mkdir()
            for place, path in files.items():
                (root / place).parent.mkdir(parents=True, exist_ok=True)
                if _copied(path, root / place) != checksums[place]:
                    raise PayloadError(f"{path} changed while it was packed", "Run it again.")
                (root / place).chmod(payload.mode(place))
            if repository and repository.copy_to(root / REPOSITORY_FOLDER) != tree:
                raise PayloadError(
                    f"a file of {repository.root} changed while it was packed", "Run it again."
                )
            (root / ID_FILE).write_text(f"{id}\n")
            # Whatever the umask is: tests may be of another user.
            for inner in (root, *root.rglob("*")):
                if inner.is_dir() and not inner.is_symlink():
                    inner.chmod(0o755)
            ext4.make(root, made, _size_for(payload), "the payload's image", error=PayloadError)

    name = "the payload's image"
    derived.obtain(cache, target, name, make, progress, reread=reread, holes=True)
    if repository:
        _remove_older(cache, repository.root, id)
    return Disk(target, id)


def _remove_older(cache: Cache, repository: Path, id: str) -> None:
    """Remove the images of a repository but for the last few: each save of a file makes one."""
    record = cache.root / "payloads" / f"{key_of(['images', str(repository)])[:32]}.sources"
    known = (records.read(record) or {}).get("ids")
    before = [str(one) for one in known] if isinstance(known, list) else []
    kept = [id, *(one for one in before if one != id)]
    if kept == before:
        touch(record)
        return
    with contextlib.suppress(OSError):
        records.write(record, {"ids": kept[:_KEPT_IMAGES]})
        for old in kept[_KEPT_IMAGES:]:  # a machine that has one open can still read it
            remove(cache.root / "payloads" / f"{old}.ext4")


def _checksums(files: Mapping[str, Path], cache: Cache, *, reread: bool) -> dict[str, str]:
    """Return the checksum of each file; it is kept in a record, with the file's identity."""
    # One record for each set of paths.
    paths = [(place, str(path.absolute())) for place, path in sorted(files.items())]
    record = cache.root / "payloads" / f"{key_of(paths)[:32]}.sources"
    known = checked_files(record)
    found = {place: measure(files[place], known.get(place), reread=reread) for place, _ in paths}
    if found == known:
        touch(record)  # still in use: see Cache.prune_derived
    else:
        with contextlib.suppress(OSError):  # the files are read again each time
            record.parent.mkdir(parents=True, exist_ok=True)
            keep_checked(record, found)
    return {place: checked.sha256 for place, checked in found.items()}


def _copied(source: Path, target: Path) -> str:
    """Copy a file; return the checksum of what was copied."""
    whole = RunningSha256()
    with source.open("rb", buffering=0) as one, target.open("xb") as other:
        while piece := one.read(1 << 20):
            whole.update(piece)
            other.write(piece)
    return whole.hexdigest()


def _digest(payload: Payload, checksums: Mapping[str, str], repository: str) -> str:
    whole = RunningSha256(b"ext4-5\0")  # to be increased when images are made in another way
    for place in sorted(checksums):
        whole.update(f"{place}\0{payload.mode(place):o}\0{checksums[place]}\n".encode())
    whole.update(repository.encode())
    return whole.hexdigest()[:32]


def _size_for(payload: Payload) -> int:
    files = payload.files()
    content, names = sum(path.stat().st_size for path in files.values()), [*files]
    if payload.repository:
        content += payload.repository.size_bytes
        names += payload.repository.files
    folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
    return ext4.size_for(content, len(names) + len(folders), _IMAGE_BYTES)

"""The payload's disk: an ext4 image that the guest mounts at `/payload`.

`image` makes it, once for each content.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import PayloadError
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.payload.model import ID_FILE, Payload

__all__ = ["Disk", "image"]

# Sparse, so a size costs nothing. It is the same for nearly all payloads, so that a machine that
# was saved with one can be given another.
_IMAGE_BYTES = 1 << 30
_FIXED_UUID = "6270666d-6174-7269-7800-000000000001"


@dataclass(frozen=True)
class Disk:
    """An image of a payload; `id` is its content's checksum, which it also holds, as `.id`."""

    image: Path
    id: str


def image(payload: Payload, cache: Cache) -> Disk:
    """Return the ext4 image with the payload's files, made if there is none of this content."""
    files = payload.files()
    id = _digest(payload, files)
    target = cache.root / "payloads" / f"{id}.ext4"
    if target.exists():
        os.utime(target)  # still in use: see Cache.prune_derived
        return Disk(target, id)
    mkfs = tools.require("mkfs.ext4", "e2fsprogs")
    target.parent.mkdir(parents=True, exist_ok=True)
    with cache.staging() as folder:
        tree, made = folder / "tree", folder / "image"
        tree.mkdir()
        for place, path in files.items():
            (tree / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tree / place)
            (tree / place).chmod(payload.mode(place))
        (tree / ID_FILE).write_text(f"{id}\n")
        _make_ext4(mkfs, tree, made, _size_for(files.values()))
        made.replace(target)
    cache.prune_derived()
    return Disk(target, id)


def _digest(payload: Payload, files: dict[str, Path]) -> str:
    whole = hashlib.sha256(b"ext4-3\0")  # counts changes of the way an image is made
    for place in sorted(files):
        with files[place].open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{place}\0{payload.mode(place):o}\0{content}\n".encode())
    return whole.hexdigest()[:32]


def _size_for(files: Iterable[Path]) -> int:
    content = sum(path.stat().st_size for path in files)
    size = _IMAGE_BYTES
    while size < content * 1.25:
        size *= 2
    return size


def _make_ext4(mkfs: Path, tree: Path, target: Path, size_bytes: int) -> None:
    done = subprocess.run(
        [
            *(mkfs, "-q", "-F", "-d", tree, "-U", _FIXED_UUID, "-m", "0"),
            # No journal, nothing set aside: it is written once and then only read.
            *("-O", "^has_journal,^resize_inode", "-E", f"hash_seed={_FIXED_UUID},nodiscard"),
            *(target, f"{size_bytes >> 10}k"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        raise PayloadError(f"mkfs.ext4 could not make the payload's image: {said}")

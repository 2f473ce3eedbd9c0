"""The payload's disk: an ext4 image that the guest mounts at `/payload`.

`image` makes it, once for each content.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.errors import PayloadError
from bpfmatrix.host import tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import RunningSha256, sha256_of
from bpfmatrix.host.process import output
from bpfmatrix.payload.model import ID_FILE, Payload

__all__ = ["Disk", "image"]

# The image is sparse, so its size costs nothing. Nearly all payloads have the same size, so that a
# machine that was saved with one can be restored with another.
_IMAGE_BYTES = 1 << 30
_FIXED_UUID = "6270666d-6174-7269-7800-000000000001"


@dataclass(frozen=True)
class Disk:
    """The image of a payload. `id` is the checksum of its content, and the text of its `.id`."""

    image: Path
    id: str


def image(payload: Payload, cache: Cache) -> Disk:
    """Return the ext4 image of a payload from the cache; it is made if it is missing."""
    files = payload.files()
    id = _digest(payload, files)
    target = cache.root / "payloads" / f"{id}.ext4"
    if target.exists():
        os.utime(target)  # it is still in use: see Cache.prune_derived
        return Disk(target, id)
    mkfs = tools.require("mkfs.ext4", "e2fsprogs")
    target.parent.mkdir(parents=True, exist_ok=True)
    with cache.staging() as folder:
        root, made = folder / "root", folder / "image"
        root.mkdir()
        for place, path in files.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, root / place)
            (root / place).chmod(payload.mode(place))
        (root / ID_FILE).write_text(f"{id}\n")
        _make_ext4(mkfs, root, made, _size_for(files.values()))
        made.replace(target)
    cache.prune_derived()
    return Disk(target, id)


def _digest(payload: Payload, files: dict[str, Path]) -> str:
    whole = RunningSha256(b"ext4-3\0")  # to be increased when images are made in another way
    for place in sorted(files):
        content = sha256_of(files[place])
        whole.update(f"{place}\0{payload.mode(place):o}\0{content}\n".encode())
    return whole.hexdigest()[:32]


def _size_for(files: Iterable[Path]) -> int:
    content = sum(path.stat().st_size for path in files)
    size = _IMAGE_BYTES
    while size < content * 1.25:
        size *= 2
    return size


def _make_ext4(mkfs: Path, root: Path, target: Path, size_bytes: int) -> None:
    command: list[str | Path] = [
        *(mkfs, "-q", "-F", "-d", root, "-U", _FIXED_UUID, "-m", "0"),
        # No journal and no reserved blocks: the image is written once, and then only read.
        *("-O", "^has_journal,^resize_inode", "-E", f"hash_seed={_FIXED_UUID},nodiscard"),
        *(target, f"{size_bytes >> 10}k"),
    ]
    output(command, "mkfs.ext4 could not make the payload's image", error=PayloadError)

"""Images in a folder of the host: an OCI image layout (image-layout.md of its specification).

Such a folder has a file `oci-layout`, an `index.json`, and all else below `blobs`, by its digest.
skopeo, buildah, crane and docker's buildx write such folders.
"""

from pathlib import Path
from typing import Any

from bpfmatrix.errors import BpfmatrixError, UsageError
from bpfmatrix.host.checksum import RunningSha256, sha256
from bpfmatrix.host.download import BytesProgress
from bpfmatrix.oci import manifests
from bpfmatrix.oci.layers import printable
from bpfmatrix.oci.manifests import Descriptor, Kind
from bpfmatrix.oci.reference import LayoutName

__all__ = ["LayoutFolder"]

# As for registries.
_SMALL_BYTES = 4 << 20
_CHUNK_BYTES = 1 << 20
# What tools write the name of an image to.
_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")


class LayoutFolder:
    """Gives the parts of one image (`ImageStore`); each is compared with its digest."""

    def __init__(self, name: LayoutName) -> None:
        self._name = name

    def read(self, kind: Kind, name: str, digest: str) -> bytes:
        """See `ImageStore`; `name` is "" for the folder's only image."""
        if digest:
            data = self._small(self._blob(digest))
            self._require(f"sha256:{sha256(data)}" == digest, digest)
            return data
        index = manifests.parse(self._small(self._name.folder / "index.json"), str(self._name))
        found = self._chosen(index, name)
        if len(found) == 1:
            chosen = Descriptor.of(found[0], str(self._name))
            return self.read(kind, chosen.digest, chosen.digest)
        return manifests.encode({**index, "manifests": found})

    def _chosen(self, index: dict[str, Any], tag: str) -> list[dict[str, Any]]:
        """Return the entries of the folder's index that have a tag, or all of a single image."""
        entries = index.get("manifests")
        if not isinstance(entries, list):
            raise manifests.unreadable(str(self._name))
        names = [_names(entry) for entry in entries]
        known = ", ".join(sorted({printable(name[0], 100) for name in names if name}))
        found = [entry for entry, own in zip(entries, names, strict=True) if not tag or tag in own]
        if not found:
            raise UsageError(
                f"{self._name.folder} has no image {tag}".rstrip(),
                f"It has: {known}." if known else "Its images have no names; give a digest.",
            )
        if len({name[:1] for name in names}) > 1 and not tag:
            raise UsageError(
                f"{self._name.folder} has several images: {known}",
                f"Name one of them, as in {self._name.folder}:NAME.",
            )
        return found

    def fetch_blob(self, blob: Descriptor, target: Path, progress: BytesProgress) -> None:
        """See `ImageStore`."""
        whole, done = RunningSha256(), 0
        path = self._blob(blob.digest)
        try:
            source = path.open("rb")
        except OSError as error:
            raise self._unreadable(path, error) from error
        with source, target.open("xb") as copy:
            while chunk := source.read(_CHUNK_BYTES):
                whole.update(chunk)
                copy.write(chunk)
                done += len(chunk)
                progress(done, blob.size_bytes)
        self._require(whole.hexdigest() == blob.sha256, blob.digest)

    def _blob(self, digest: str) -> Path:
        return self._name.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _small(self, path: Path) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(_SMALL_BYTES + 1)
        except OSError as error:
            raise self._unreadable(path, error) from error
        if len(data) > _SMALL_BYTES:
            raise BpfmatrixError(f"{path} is larger than it may be", "Write the image again.")
        return data

    def _unreadable(self, path: Path, error: OSError) -> BpfmatrixError:
        place = path.relative_to(self._name.folder)
        return BpfmatrixError(
            f"{self._name}: the image's {place} can't be read ({error.strerror})",
            "Write the image again, with all of its parts.",
        )

    def _require(self, is_right: bool, digest: str) -> None:
        if not is_right:
            raise BpfmatrixError(
                f"{self._name}: blobs/sha256/{digest.removeprefix('sha256:')} does not have its "
                "digest",
                "Write the image again.",
            )


def _names(entry: Any) -> tuple[str, ...]:
    """Return the names of an image, from its entry in the folder's index."""
    found = entry.get("annotations") if isinstance(entry, dict) else None
    notes = found if isinstance(found, dict) else {}
    return tuple(str(notes[key]) for key in _NAMES if key in notes)

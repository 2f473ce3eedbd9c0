"""An image for one architecture: `resolve` finds it, and `OciImage.download` fetches its layers.

Everything that is fetched has the digest that names it: the manifest has that of a pinned name or
of the index, a layer and the configuration have those of the manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.download import BytesProgress
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.oci import manifests
from bpfmatrix.oci.manifests import BLOB, MANIFEST, Descriptor, Kind
from bpfmatrix.oci.reference import Reference
from bpfmatrix.oci.registry import GoneError, RegistryClient

__all__ = ["ImageStore", "OciImage", "resolve", "resolve_again", "resolve_in"]


class ImageStore(Protocol):
    """A place that has the parts of one image: a registry, or a folder."""

    def read(self, kind: Kind, name: str, digest: str) -> bytes:
        """Return a manifest, an index or a small blob, by its tag or digest.

        `digest` is the one that it must have, or "" if only a tag is known.
        """

    def fetch_blob(self, blob: Descriptor, target: Path, progress: BytesProgress) -> None:
        """Fetch a blob into a file."""


@dataclass(frozen=True)
class OciImage:
    """An image for one architecture, as its manifest describes it."""

    name: str
    """The name that was asked for."""
    digest: str
    """`sha256:...` of the manifest."""
    config: Mapping[str, Any]
    """Its configuration (config.md of the OCI image specification); empty for an artifact."""
    layers: tuple[Descriptor, ...]
    _store: ImageStore

    @property
    def size_bytes(self) -> int:
        """The size of all layers, as they are fetched."""
        return sum(layer.size_bytes for layer in self.layers)

    def download(self, folder: Path, progress: Progress = silent) -> list[Path]:
        """Fetch the layers into an empty folder, the lowest first; each has its digest."""
        text = f"{self.name}: fetching {self.size_bytes / 1e6:.0f} MB"
        paths: list[Path] = []
        before = 0

        def show(there: int, _: int = 0) -> None:
            done = (before + there) / self.size_bytes if self.size_bytes else None
            progress(text, min(done, 1.0) if done is not None else None)

        for number, layer in enumerate(self.layers):
            show(0)
            paths.append(folder / str(number))
            self._store.fetch_blob(layer, paths[-1], show)
            before += layer.size_bytes
        return paths


def resolve(
    reference: Reference, arch: str, progress: Progress = silent, *, any_kind: bool = False
) -> OciImage:
    """Ask the registry for an image; KernelUnavailableError says why it can't be had.

    For `any_kind`, see `resolve_in`.
    """
    progress(f"{reference}: asking {reference.host}")
    tag, client = reference.digest or reference.tag, RegistryClient(reference)
    return resolve_in(client, tag, reference.digest, arch, str(reference), any_kind=any_kind)


def resolve_in(
    store: ImageStore, tag: str, digest: str, arch: str, name: str, *, any_kind: bool = False
) -> OciImage:
    """Find the image for an architecture in a store, by its tag or digest.

    `digest` is the one that it, or its index, must have; "" if only the tag is known. `name` is for
    messages. `any_kind` also takes artifacts, whose layers are no archives, and an image in no
    index that says that it is for another architecture: what it has may not depend on that.
    KernelUnavailableError says why it can't be had.
    """
    platform = ARCHITECTURES[arch].oci_platform
    data = store.read(MANIFEST, tag, digest)
    manifest = manifests.parse(data, name)
    is_chosen = manifests.media_type(manifest, name) in manifests.INDEXES
    if is_chosen:
        chosen = manifests.for_platform(manifest, platform, name)
        data = store.read(MANIFEST, chosen.digest, chosen.digest)
        manifest = manifests.parse(data, name)
        found = manifests.media_type(manifest, name)
        if found not in manifests.MANIFESTS:  # an index in an index
            raise manifests.unknown_media_type(name, found)
    config = _config(store, manifest, name)
    own = f"{config.get('os')}/{config.get('architecture')}"
    is_other = config.get("architecture") and own != platform
    if is_other and not is_chosen and not any_kind:
        raise manifests.no_platform(name, platform, [own])
    layers = manifests.descriptors(manifest.get("layers"), name)
    for layer in layers:
        if not any_kind and not manifests.LAYER.fullmatch(layer.media_type):
            raise manifests.unknown_media_type(name, layer.media_type)
    return OciImage(name, f"sha256:{sha256(data)}", config, layers, store)


def _config(store: ImageStore, manifest: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an image's configuration; empty for an artifact, which has none."""
    config = Descriptor.of(manifest.get("config"), name)
    if config.media_type not in manifests.CONFIGS:
        return {}
    return manifests.parse(store.read(BLOB, config.digest, config.digest), name)


def resolve_again(
    reference: Reference, digest: str, arch: str, progress: Progress = silent
) -> OciImage:
    """Ask for the manifest that an image had before, or for the image if that manifest is gone."""
    try:
        same = resolve(replace(reference, digest=digest), arch, progress)
    except GoneError:
        return resolve(reference, arch, progress)
    return replace(same, name=str(reference))

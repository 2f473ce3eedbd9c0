"""The `oci` source: kernels in images of container registries.

`resolve` asks a registry for the image of one architecture, `OciImage.download` fetches its layers,
and `OciKernel.fetch` stores the kernel that is in them. Everything that is fetched has the digest
that names it: the manifest has that of a pinned reference or of the index, a layer has that of the
manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.oci import manifests
from bpfmatrix.kernels.oci.layers import find_kernel, merge
from bpfmatrix.kernels.oci.manifests import Descriptor
from bpfmatrix.kernels.oci.reference import Reference
from bpfmatrix.kernels.oci.registry import GoneError, RegistryClient
from bpfmatrix.kernels.sources.source import KernelSource
from bpfmatrix.kernels.staging import install, upstream_version
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space

__all__ = ["OciImage", "OciKernel", "resolve", "resolve_again"]

# A layer is on the disk as it is fetched, once unpacked, and once more with uncompressed modules.
# Compressed kernels and modules, which such images consist of, get about three times as large.
_TIMES_UNPACKED = 7


@dataclass(frozen=True)
class OciImage:
    """An image for one architecture, as its manifest describes it."""

    reference: Reference
    """The name that was asked for."""
    digest: str
    """`sha256:...` of the manifest."""
    layers: tuple[Descriptor, ...]
    _client: RegistryClient

    @property
    def size_bytes(self) -> int:
        """The size of all layers, as they are fetched."""
        return sum(layer.size_bytes for layer in self.layers)

    def download(self, folder: Path, progress: Progress = silent) -> list[Path]:
        """Fetch the layers into an empty folder, the lowest first; each has its digest."""
        text = f"{self.reference}: fetching {self.size_bytes / 1e6:.0f} MB"
        paths: list[Path] = []
        before = 0

        def show(there: int, _: int = 0) -> None:
            done = (before + there) / self.size_bytes if self.size_bytes else None
            progress(text, min(done, 1.0) if done is not None else None)

        for number, layer in enumerate(self.layers):
            show(0)
            paths.append(folder / str(number))
            self._client.fetch_blob(layer, paths[-1], show)
            before += layer.size_bytes
        return paths


def resolve(reference: Reference, arch: str, progress: Progress = silent) -> OciImage:
    """Ask the registry for an image; KernelUnavailableError says why it can't be had."""
    progress(f"{reference}: asking {reference.host}")
    client, platform = RegistryClient(reference), ARCHITECTURES[arch].oci_platform
    digest, manifest = client.manifest(reference.digest or reference.tag, reference.digest)
    if manifests.media_type(manifest, reference) in manifests.INDEXES:
        chosen = manifests.for_platform(manifest, platform, reference)
        digest, manifest = client.manifest(chosen.digest, chosen.digest)
        found = manifests.media_type(manifest, reference)
        if found not in manifests.MANIFESTS:  # an index in an index
            raise manifests.unknown_media_type(reference, found)
    else:
        _require_platform(client, manifest, platform, reference)
    layers = manifests.descriptors(manifest.get("layers"), reference)
    for layer in layers:
        if not manifests.LAYER.fullmatch(layer.media_type):
            raise manifests.unknown_media_type(reference, layer.media_type)
    return OciImage(reference, digest, layers, client)


def _require_platform(
    client: RegistryClient, manifest: Mapping[str, Any], platform: str, reference: Reference
) -> None:
    """Refuse an image whose configuration names another platform."""
    config = Descriptor.of(manifest.get("config"), reference)
    if config.media_type not in manifests.CONFIGS:
        return  # an artifact, which names none: the kernel's own architecture is checked later
    data = manifests.parse(client.read_blob(config), reference)
    own = f"{data.get('os')}/{data.get('architecture')}"
    if data.get("architecture") and own != platform:
        raise manifests.no_platform(reference, platform, [own])


def resolve_again(
    reference: Reference, digest: str, arch: str, progress: Progress = silent
) -> OciImage:
    """Ask for the manifest that an image had before, or for the image if that manifest is gone."""
    try:
        same = resolve(replace(reference, digest=digest), arch, progress)
    except GoneError:
        return resolve(reference, arch, progress)
    return replace(same, reference=reference)


class OciKernel(KernelSource):
    """A kernel in an image of a container registry."""

    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """See KernelSource."""
        kernel = self.kernel
        assert kernel.source.oci is not None
        reference = Reference.parse(kernel.source.oci)
        before = store.resolved_packages(kernel) if same else ()
        if before:
            image = resolve_again(reference, f"sha256:{before[0].sha256}", kernel.arch, progress)
        else:
            image = resolve(reference, kernel.arch, progress)
        sha256 = image.digest.removeprefix("sha256:")
        packages = (Package(reference.name, reference.tag, sha256),)
        stored = store.intact(kernel.arch, lambda provenance: provenance.packages == packages)
        if stored and store.point(kernel, stored):
            return stored
        require_space(store.cache.root, UNPACKED_KERNEL_BYTES + _TIMES_UNPACKED * image.size_bytes)
        with store.cache.staging() as staging:
            for name in ("layers", "files", "root"):
                (staging / name).mkdir()
            paths = image.download(staging / "layers", progress)
            progress(f"{kernel.id}: unpacking {reference}")
            found = find_kernel(merge(paths, staging / "files"), kernel.id)
            name = f"{found.name} of {reference}"
            vmlinuz = install(found.vmlinuz, name, found.modules, found.config, staging / "root")
            source = f"oci {replace(reference, digest=image.digest)}"
            provenance = Provenance(source, packages)
            return store.add(kernel, staging, upstream_version(vmlinuz), provenance)

    def other_ways(self, place: str) -> str:
        """See KernelSource."""
        return (
            "or get it in one of three other ways: name an apt source for it in kernels.yaml, run "
            f"`invoke kernels.build {self.kernel.id}`, or put an image into {place} or below "
            "KERN_DIR."
        )

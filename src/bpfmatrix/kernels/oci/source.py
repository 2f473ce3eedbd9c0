"""The `oci` source: kernels in images of container registries.

`OciKernel.fetch` stores the kernel that is in an image's layers.
"""

from dataclasses import replace

from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.oci.image_kernel import find_kernel, unpack
from bpfmatrix.kernels.sources.source import KernelSource
from bpfmatrix.kernels.staging import install, upstream_version
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space
from bpfmatrix.oci.image import resolve, resolve_again
from bpfmatrix.oci.reference import Reference

__all__ = ["OciKernel"]

# A layer is on the disk as it is fetched, once unpacked, and once more with uncompressed modules.
# Compressed kernels and modules, which such images consist of, get about three times as large.
_TIMES_UNPACKED = 7


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
            found = find_kernel(unpack(paths, staging / "files"), kernel.id)
            name = f"{found.name} of {reference}"
            vmlinuz = install(found.vmlinuz, name, found.modules, found.config, staging / "root")
            source = f"oci {replace(reference, digest=image.digest)}"
            provenance = Provenance(source, packages)
            return store.add(kernel, staging, upstream_version(vmlinuz), provenance)

    def check(self, cache: Cache) -> None:
        """See KernelSource: whether the registry has the image, for this architecture."""
        assert self.kernel.source.oci is not None
        resolve(Reference.parse(self.kernel.source.oci), self.kernel.arch)

    def other_ways(self, place: str) -> str:
        """See KernelSource."""
        return (
            "or get it in one of three other ways: name an apt source for it in kernels.yaml, run "
            f"`invoke kernels.build {self.kernel.id}`, or put an image into {place} or below "
            "KERN_DIR."
        )

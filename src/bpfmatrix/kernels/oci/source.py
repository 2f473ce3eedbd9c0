"""The `oci` source: kernels in images of container registries.

`OciKernel.fetch` stores the kernel that is in an image's layers.
"""

import re
from collections.abc import Hashable
from dataclasses import replace

from bpfmatrix.config.sources import Source
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.oci.image_kernel import fetched
from bpfmatrix.kernels.sources.source import KernelSource, PointRelease, dropped
from bpfmatrix.kernels.staging import install, upstream_version
from bpfmatrix.kernels.store import Store
from bpfmatrix.oci.image import OciImage, resolve, resolve_again
from bpfmatrix.oci.reference import Reference
from bpfmatrix.oci.registry import GoneError

__all__ = ["OciKernel"]


class OciKernel(KernelSource):
    """A kernel in an image of a container registry."""

    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """See KernelSource."""
        kernel = self.kernel
        assert kernel.source.oci is not None
        reference = Reference.parse(kernel.source.oci)
        before = store.resolved_packages(kernel) if same else ()
        if kernel.pin:
            image = self._pinned(reference, progress)
        elif before:
            image = resolve_again(reference, f"sha256:{before[0].sha256}", kernel.arch, progress)
        else:
            image = resolve(reference, kernel.arch, progress)
        sha256 = image.digest.removeprefix("sha256:")
        packages = (Package(reference.name, reference.tag, sha256),)
        stored = store.intact(kernel, lambda provenance: provenance.packages == packages)
        if stored and store.point(kernel, stored):
            return stored
        with fetched(image, kernel.id, str(reference), store, progress) as (staging, found):
            name = f"{found.name} of {reference}"
            vmlinuz = install(found.vmlinuz, name, found.modules, found.config, staging / "root")
            source = f"oci {replace(reference, digest=image.digest)}"
            provenance = Provenance(source, packages)
            return store.add(kernel, staging, upstream_version(vmlinuz), provenance)

    def check(self, cache: Cache) -> None:
        """See KernelSource: whether the registry has the image, for this architecture."""
        assert self.kernel.source.oci is not None
        reference = Reference.parse(self.kernel.source.oci)
        if self.kernel.pin:
            self._pinned(reference, silent)
        else:
            resolve(reference, self.kernel.arch)

    def _pinned(self, reference: Reference, progress: Progress) -> OciImage:
        """Ask for the manifest that kernels.lock pins; if it is gone, say what the tag has now."""
        kernel, pin = self.kernel, self.kernel.pin
        assert pin is not None
        exact = replace(reference, digest=f"sha256:{pin.packages[0].sha256}")
        try:
            return replace(resolve(exact, kernel.arch, progress), name=str(reference))
        except GoneError as error:
            if reference.digest:
                raise
            now = resolve(reference, kernel.arch, progress).digest
            raise dropped(reference.name, pin, f"{reference}@{now[:19]}") from error

    @property
    def place(self) -> Hashable | None:
        """See KernelSource."""
        assert self.kernel.source.oci is not None
        reference = Reference.parse(self.kernel.source.oci)
        return ("oci", reference.name, _like(reference.tag).pattern, self.kernel.arch)

    def releases(self, cache: Cache, progress: Progress) -> list[PointRelease]:
        """See KernelSource: the tags of the repository that name a release as this kernel's does.

        A tag with two numbers is a series.
        """
        # Its libraries are slow to import, and a run of a cached kernel needs none.
        from bpfmatrix.oci.registry import RegistryClient  # noqa: PLC0415

        assert self.kernel.source.oci is not None
        reference = Reference.parse(self.kernel.source.oci)
        progress(f"{reference.name}: looking for kernels")
        pattern = _like(reference.tag)
        prefix = "http://" if self.kernel.source.oci.startswith("http://") else ""
        return [
            PointRelease(match[1], Source(oci=f"{prefix}{reference.name}:{tag}"))
            for tag in RegistryClient(replace(reference, tag="", digest="")).tags()
            if (match := pattern.fullmatch(tag))
        ]

    def other_ways(self, place: str) -> str:
        """See KernelSource."""
        build = command(f"kernels.build {self.kernel.id}")
        return (
            "or get it in one of three other ways: name an apt source for it in kernels.yaml, run "
            f"`{build}`, or put an image into {place} or below "
            "KERN_DIR."
        )


# The release in a tag: `6.1.10` of `v6.1.10-amd64`.
_RELEASE_IN_TAG = re.compile(r"\d+\.\d+(?:\.\d+)?")


def _like(tag: str) -> re.Pattern[str]:
    """Return the pattern of tags that name a release in the way in which this tag does."""
    match = _RELEASE_IN_TAG.search(tag)
    before, after = (tag[: match.start()], tag[match.end() :]) if match else ("", "")
    return re.compile(rf"{re.escape(before)}({_RELEASE_IN_TAG.pattern}){re.escape(after)}")

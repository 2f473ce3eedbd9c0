"""The `build` source: a kernel made from source with the fragments of `ci-kernels`."""

from collections.abc import Hashable, Mapping
from functools import partial
from typing import Any

from pydantic import ValidationError

from bpfmatrix.config.mistakes import first_mistake
from bpfmatrix.config.models import Config
from bpfmatrix.config.sources import BuildSource, Source
from bpfmatrix.errors import KernelUnavailableError, UsageError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.build import builder, result, source_trees
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.kernels.image_files import modules_of
from bpfmatrix.kernels.sources.source import KernelSource, PointRelease
from bpfmatrix.kernels.staging import install
from bpfmatrix.kernels.store import UNPACKED_KERNEL_BYTES, Store, require_space

__all__ = ["BuildKernel", "build_source"]


class BuildKernel(KernelSource):
    """A kernel that is built here."""

    @property
    def source(self) -> BuildSource:
        """What kernels.yaml says."""
        assert self.kernel.source.build is not None
        return self.kernel.source.build

    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """See KernelSource. `same` takes the kernel as it was built, if nothing changed since."""
        arch, root = self.kernel.arch, self.kernel.root
        built = self._existing() if same else None
        if built is None:
            built = builder.build(self.source, arch, root, store.cache, progress)
        vmlinuz = built.folder / "vmlinuz"
        require_space(store.cache.root, UNPACKED_KERNEL_BYTES)
        with store.cache.staging() as staging:
            (staging / "root").mkdir()
            install(
                vmlinuz,
                f"the kernel in {built.folder}",
                partial(modules_of, vmlinuz),
                built.folder / "config",
                staging / "root",
            )
            provenance = Provenance(f"built from {built.source}", built.packages)
            return store.add(self.kernel, staging, built.version, provenance)

    def check(self, cache: Cache) -> None:
        """See KernelSource: whether the sources can be had, unless the kernel is built already."""
        if self._existing() is None:
            source_trees.check(self.source, self.kernel.arch, self.kernel.root, cache)

    def _existing(self) -> result.BuiltKernel | None:
        """Return the kernel as it was built here, or None.

        KernelUnavailableError if the kernel is pinned to another one.
        """
        built = result.existing(self.source, self.kernel.arch, self.kernel.root)
        if (pin := self.kernel.pin) and not (
            built and f"sha256:{sha256_of(built.folder / 'vmlinuz')}" == pin.digest
        ):
            raise KernelUnavailableError(
                "it was built elsewhere, and a build here would not be the same to the bit"
            )
        return built

    def differs_from_pin(self, store: Store, image: KernelImage) -> str:
        """See KernelSource."""
        if result.is_current(self.source, self.kernel.arch, self.kernel.root, image.digest):
            return ""
        return "ci-kernels/ has another build, or its fragments changed"

    def is_current(self, store: Store, image: KernelImage) -> bool:
        """Whether the image is of the last build, and the fragments did not change since."""
        return result.is_current(self.source, self.kernel.arch, self.kernel.root, image.digest)

    @property
    def place(self) -> Hashable | None:
        """See KernelSource."""
        source = self.source
        # kernel.org has a folder for each major version, Debian a package for each series.
        numbers = source.version.split(".")[: 1 if source.origin == "kernel.org" else 2]
        return ("build", source.origin, source.url, source.suite, *numbers, self.kernel.arch)

    def releases(self, cache: Cache, progress: Progress) -> list[PointRelease]:
        """See KernelSource: what could be built."""
        kernel, source = self.kernel, self.source
        progress(f"{source.origin}: looking for sources")
        known = source_trees.releases(source, kernel.arch, kernel.root, cache, progress)
        # A checksum is that of one release's tarball.
        changes = {"sha256": None}
        return [
            PointRelease(each, Source(build=source.model_copy(update={**changes, "version": each})))
            for each in known
        ]

    @property
    def is_built(self) -> bool:
        """Whether the kernel can be had without a build, as its last build is current."""
        return result.existing(self.source, self.kernel.arch, self.kernel.root) is not None


def build_source(
    config: Config, version: str, given: Mapping[str, Any], arch: str
) -> tuple[BuildSource, str]:
    """Return the source and the architecture that a command line means.

    `given` has values by the keys of BuildSource; an empty value was not given. The rest is that of
    the kernel with the id `version`, if kernels.yaml has one with the source `build`. UsageError
    for a value that its key does not take.
    """
    entry = config.kernels.get(version)
    declared = entry.source.build if entry else None
    known = declared.model_dump(by_alias=True, exclude_unset=True) if declared else {}
    values = {**known, **{key: value for key, value in given.items() if value}}
    if arch not in ("", *ARCHITECTURES):
        raise UsageError(f"--arch {arch}: expected one of {', '.join(ARCHITECTURES)}")
    for_arch = arch or (config.kernel(version).arch if entry else config.defaults.arch)
    data = {"version": version, **values}
    try:
        return BuildSource.model_validate(data), for_arch
    except ValidationError as error:
        key, what = first_mistake(error, BuildSource, data)
        raise UsageError(f"--{key}: {what}") from error

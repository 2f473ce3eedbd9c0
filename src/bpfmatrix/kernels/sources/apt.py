"""The `apt` source: kernels in packages of Debian, or of a distribution like it."""

import contextlib
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.config.sources import AptSource
from bpfmatrix.errors import KernelUnavailableError, NotInArchiveError, UnreachableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels.image import KernelImage, Package, Provenance
from bpfmatrix.kernels.sources import apt_packages
from bpfmatrix.kernels.sources.apt_packages import Deb
from bpfmatrix.kernels.sources.source import IndexedSource, Offer, dropped
from bpfmatrix.kernels.store import Store

if TYPE_CHECKING:
    from bpfmatrix.kernels.sources.apt_archive import Archive

__all__ = ["AptKernel"]


class AptKernel(IndexedSource):
    """A kernel in a package of an apt suite."""

    @property
    def source(self) -> AptSource:
        """What kernels.yaml says."""
        assert self.kernel.source.apt is not None
        return self.kernel.source.apt

    @property
    def pattern(self) -> str:
        """The package, or the pattern of packages, that kernels.yaml means."""
        return self.source.package or apt_packages.default_pattern(self.kernel.id, self.kernel.arch)

    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """See KernelSource."""
        from bpfmatrix.kernels.sources import package_files  # noqa: PLC0415 - see _archive

        archive = self._archive(store.cache)
        with contextlib.ExitStack() as held:
            held.enter_context(archive.locked())
            archive.update(progress)
            index = archive.debs()
            debs = _again(index, store.resolved_packages(self.kernel)) if same else ()
            if not debs:
                debs = apt_packages.resolve(index, self.pattern, self.source.suite)
                if pin := self.kernel.pin:
                    raise dropped(self.source.suite, pin, f"{debs[0].name} {debs[0].version}")
            packages = tuple(Package(deb.name, deb.version, deb.sha256) for deb in debs)
            image = store.intact(self.kernel, lambda found: found.packages == packages)
            if image and store.point(self.kernel, image):
                return image
            vendor = archive.vendor()

            def download(folder: Path) -> list[Path]:
                nonlocal debs
                debs, files = self._download(archive, index, debs, folder, progress)
                held.close()  # another kernel of this suite need not wait for the unpacking
                return files

            def describe(files: list[Path]) -> tuple[str, Provenance]:
                packages = tuple(Package(deb.name, deb.version, deb.sha256) for deb in debs)
                # A meta package may have a version of its own; the last package, to which it
                # leads, has the kernel's version.
                return debs[-1].upstream_version, Provenance(
                    f"apt {self.source.suite}", packages, vendor
                )

            return package_files.store_kernel(
                self.kernel,
                store,
                download,
                sum(deb.size_bytes + deb.installed_bytes for deb in debs),
                describe,
                progress,
            )

    def _download(
        self,
        archive: "Archive",
        index: Sequence[Deb],
        debs: tuple[Deb, ...],
        folder: Path,
        progress: Progress,
    ) -> tuple[tuple[Deb, ...], list[Path]]:
        """Download packages, or if a mirror lacks them, the next older ones that the pattern means.

        A mirror may have a new index before the packages in it, and an old one when they are gone.
        """
        missing: list[Deb] = []
        while True:
            try:
                return debs, archive.download(debs, folder, progress)
            except NotInArchiveError as error:
                if "*" not in self.pattern or self.kernel.pin:
                    raise
                missing += debs
                suite, newest = self.source.suite, debs[0].name
                try:
                    debs = apt_packages.resolve(index, self.pattern, suite, missing)
                except KernelUnavailableError:
                    raise error from None
                announce(
                    progress,
                    f"{suite} lists {newest}, and the mirror lacks it: taking {debs[0].name}",
                )

    def check(self, cache: Cache) -> None:
        """See KernelSource: whether the archive has the suite, and is to be trusted.

        For a pinned kernel, the index is fetched: it tells whether the packages are still there.
        """
        archive, pin = self._archive(cache), self.kernel.pin
        if pin is None:
            archive.check()
            return
        with archive.locked():
            archive.update()
            index = archive.debs()
        if not _again(index, pin.packages):
            found = apt_packages.resolve(index, self.pattern, self.source.suite)[0]
            raise dropped(self.source.suite, pin, f"{found.name} {found.version}")

    @property
    def index(self) -> Hashable:
        """See IndexedSource."""
        source = self.source
        return (
            *("apt", source.mirror, source.suite, tuple(source.components), source.keyring),
            self.kernel.arch,
        )

    def refresh(self, cache: Cache, progress: Progress) -> None:
        """See IndexedSource."""
        self.debs(cache, refresh=True, progress=progress)

    def newest(self, cache: Cache) -> str:
        """See IndexedSource."""
        return apt_packages.resolve(self.debs(cache), self.pattern, self.source.suite)[0].version

    def offers(self, cache: Cache, progress: Progress) -> list[Offer]:
        """See IndexedSource."""
        return [
            Offer(deb.name, deb.version, self.source.suite, self.kernel.arch, deb.size_bytes)
            for deb in self.debs(cache, refresh=True, progress=progress)
            if deb.name.startswith("linux-image-")
        ]

    def debs(self, cache: Cache, refresh: bool = False, progress: Progress = silent) -> list[Deb]:
        """Return the kernel packages of the suite; `refresh` fetches the index first.

        An index that can't be refreshed serves as it is. UnreachableError if there is none.
        """
        archive = self._archive(cache)
        with archive.locked():
            if refresh:
                try:
                    archive.update(progress)
                except UnreachableError as error:
                    if not archive.debs():
                        raise
                    progress(f"{error.what}; using the index that was fetched last")
            return archive.debs()

    def _archive(self, cache: Cache) -> "Archive":
        # A run of a cached kernel makes an AptKernel, and needs no archive.
        from bpfmatrix.kernels.sources.apt_archive import Archive  # noqa: PLC0415

        return Archive.of(cache, self.kernel, self.source)


def _again(index: Sequence[Deb], packages: Sequence[Package]) -> tuple[Deb, ...]:
    """Return the index's entries of exactly these packages, or nothing if one of them is gone."""
    by_checksum = {deb.sha256: deb for deb in index}
    found = tuple(by_checksum[p.sha256] for p in packages if p.sha256 in by_checksum)
    return found if len(found) == len(packages) else ()

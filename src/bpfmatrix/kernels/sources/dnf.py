"""The `dnf` source: kernels in repositories of RPM packages."""

import contextlib
import re
from collections.abc import Hashable
from pathlib import Path

from bpfmatrix.config.sources import DnfSource, Source
from bpfmatrix.errors import UnreachableError
from bpfmatrix.host import versions
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.kernels.sources import package_files
from bpfmatrix.kernels.sources.dnf_repository import Repository
from bpfmatrix.kernels.sources.source import IndexedSource, PointRelease, dropped
from bpfmatrix.kernels.store import Store

__all__ = ["DnfKernel"]

# A plain name and not a pattern: no version in it, and none of a pattern's characters.
_PLAIN_NAME = re.compile(r"(?!.*-\d+\.\d)[^*?\[\]]+")


class DnfKernel(IndexedSource):
    """A kernel in a package of a dnf repository."""

    @property
    def source(self) -> DnfSource:
        """What kernels.yaml says."""
        assert self.kernel.source.dnf is not None
        return self.kernel.source.dnf

    @property
    def pattern(self) -> str:
        """What dnf is asked for: a name, or a pattern of name and version."""
        series = versions.leading_version(self.kernel.id)
        if series and _PLAIN_NAME.fullmatch(self.source.package):
            return f"{self.source.package}-{series}.*"
        return self.source.package

    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """See KernelSource."""
        kernel, repository = self.kernel, self._repository(store.cache)
        with contextlib.ExitStack() as held:
            held.enter_context(repository.locked())
            repository.update(progress)
            before = [(p.name, p.version) for p in store.resolved_packages(kernel)] if same else []
            rpms = repository.again(before) or repository.resolve(self.pattern)
            if (pin := kernel.pin) and [(rpm.name, rpm.version) for rpm in rpms] != before:
                now = f"{rpms[0].name} {rpms[0].version}"
                raise dropped(self.source.repository, pin, now)
            names = [(rpm.name, rpm.version) for rpm in rpms]
            image = store.intact(kernel, lambda found: self._has(found, names))
            if image and store.point(kernel, image):
                return image

            def download(folder: Path) -> list[Path]:
                files = repository.download(rpms, folder, progress)
                held.close()  # another kernel of this repository need not wait for the unpacking
                return files

            def describe(files: list[Path]) -> tuple[str, Provenance]:
                version = versions.upstream(rpms[0].build)
                return version, package_files.provenance(self._name, files)

            return package_files.store_kernel(
                kernel,
                store,
                download,
                sum(rpm.size_bytes + rpm.installed_bytes for rpm in rpms),
                describe,
                progress,
            )

    def check(self, cache: Cache) -> None:
        """See KernelSource: whether the repository, or its list of mirrors, answers."""
        from bpfmatrix.host import download  # noqa: PLC0415 - off the start-up path

        self._repository(cache)  # which needs dnf
        url = self.source.repository
        download.read(url if self.source.mirrorlist else f"{url.rstrip('/')}/repodata/repomd.xml")

    @property
    def index(self) -> Hashable:
        """See IndexedSource."""
        source = self.source
        return ("dnf", source.repository, source.key, source.signed_metadata, self.kernel.arch)

    def refresh(self, cache: Cache, progress: Progress) -> None:
        """See IndexedSource. Metadata that can't be refreshed serves as it is."""
        repository = self._repository(cache)
        with repository.locked(), contextlib.suppress(UnreachableError):
            repository.update(progress)

    def newest(self, cache: Cache) -> str:
        """See IndexedSource."""
        repository = self._repository(cache)
        with repository.locked():
            return repository.newest(self.pattern).version

    @property
    def place(self) -> Hashable | None:
        """See KernelSource."""
        return self.index

    def releases(self, cache: Cache, progress: Progress) -> list[PointRelease]:
        """See KernelSource."""
        self.refresh(cache, progress)
        repository = self._repository(cache)
        with repository.locked():
            rpms = repository.builds(self.source.package)
        return [
            PointRelease(
                rpm.build,
                Source(
                    dnf=self.source.model_copy(update={"package": f"{rpm.name}-{rpm.build}"}),
                ),
            )
            for rpm in rpms
        ]

    @property
    def _name(self) -> str:
        return f"dnf {self.source.repository}"

    def _has(self, provenance: Provenance, names: list[tuple[str, str]]) -> bool:
        found = [(package.name, package.version) for package in provenance.packages]
        return provenance.source == self._name and found == names

    def _repository(self, cache: Cache) -> Repository:
        return Repository.of(cache, self.kernel, self.source)

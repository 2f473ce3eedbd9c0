"""The `package` source: a kernel in single `.deb` or `.rpm` files, by their paths or URLs."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bpfmatrix.config.sources import PackageSource
from bpfmatrix.config.value_types import is_url
from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host import versions
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage, Provenance
from bpfmatrix.kernels.sources import package_files
from bpfmatrix.kernels.sources.source import KernelSource
from bpfmatrix.kernels.store import Store

__all__ = ["PackageKernel"]

# How much larger than its packages a kernel is: three to five times.
_TIMES_UNPACKED = 5
_NAME = "package"


class PackageKernel(KernelSource):
    """A kernel in packages that kernels.yaml names one by one."""

    @property
    def source(self) -> PackageSource:
        """What kernels.yaml says."""
        assert self.kernel.source.package is not None
        return self.kernel.source.package

    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """See KernelSource."""
        names = self.source.files
        declared = self.source.sha256 or [None] * len(names)
        checksums = [
            sha256 or sha256_of(self._file(name))
            for name, sha256 in zip(names, declared, strict=True)
        ]
        image = store.intact(self.kernel, lambda found: _has(found, checksums))
        if image and store.point(self.kernel, image):
            return image
        with store.cache.staging() as staging:
            paths = [
                self._obtain(name, sha256, staging / f"{number}", progress)
                for number, (name, sha256) in enumerate(zip(names, checksums, strict=True))
            ]
            size_bytes = sum(path.stat().st_size for path in paths)

            def describe(files: list[Path]) -> tuple[str, Provenance]:
                provenance = package_files.provenance(_NAME, files)
                version = versions.upstream(provenance.packages[0].version)
                return version, provenance

            return package_files.store_kernel(
                self.kernel,
                store,
                lambda _: paths,
                _TIMES_UNPACKED * size_bytes,
                describe,
                progress,
            )

    def check(self, cache: Cache) -> None:
        """See KernelSource: whether each file is there."""
        from bpfmatrix.host import download  # noqa: PLC0415 - off the start-up path

        for name in self.source.files:
            if is_url(name):
                download.probe(name)
            else:
                self._file(name)

    def is_current(self, store: Store, image: KernelImage) -> bool:
        """Whether the files that are still there have the content that they had."""
        packages = image.provenance.packages
        for name, package in zip(self.source.files, packages, strict=False):
            path = self.kernel.root / Path(name).expanduser()
            if not is_url(name) and path.is_file() and sha256_of(path) != package.sha256:
                return False
        return True

    def _file(self, name: str) -> Path:
        path = self.kernel.root / Path(name).expanduser()
        if not path.is_file():
            raise KernelUnavailableError(
                f"{path}: no such file", f"kernels.{self.kernel.id}.source.package.files names it."
            )
        return path

    def _obtain(self, name: str, sha256: str, folder: Path, progress: Progress) -> Path:
        """Return a file that has the checksum: downloaded into a new folder if `name` is a URL."""
        if is_url(name):
            return _downloaded(name, sha256, folder, progress)
        path = self._file(name)
        found = sha256_of(path)
        if found != sha256:
            raise _other_checksum(f"{name} has the SHA-256 {found}", sha256)
        return path


def _has(provenance: Provenance, checksums: Sequence[str]) -> bool:
    found = [package.sha256 for package in provenance.packages]
    return provenance.source == _NAME and found == checksums


def _downloaded(url: str, sha256: str, folder: Path, progress: Progress) -> Path:
    from bpfmatrix.host import download  # noqa: PLC0415 - off the start-up path

    path = folder / (PurePosixPath(url.partition("?")[0]).name or "package")
    try:
        download.fetch(url, path, sha256, progress=download.shown_by(progress, path.name))
    except download.ContentError as error:
        raise _other_checksum(error.what, sha256) from error
    return path


def _other_checksum(what: str, expected: str) -> KernelUnavailableError:
    return KernelUnavailableError(
        f"{what}, not that of kernels.yaml",
        f"Expected: {expected}. Either the file was replaced, or the checksum is mistyped.",
    )

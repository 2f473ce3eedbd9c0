"""A suite of an archive of Debian packages, fetched without apt, for hosts that have none.

The chain of trust is apt's: the keys, the signed `InRelease`, the checksum of the `Packages` index
in it, the checksum of each package in that. The folder in the cache has the text of the last
`InRelease` that was trusted and whose indexes came (`Release`), and the indexes, compressed as they
came, by their SHA-256.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UnreachableError
from bpfmatrix.host import download
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.checksum import sha256_of
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.host.whole_file import write_whole
from bpfmatrix.kernels.formats import compression
from bpfmatrix.kernels.sources import apt_failures, release_file
from bpfmatrix.kernels.sources.apt_archive import Archive, vendor_of
from bpfmatrix.kernels.sources.apt_packages import Deb
from bpfmatrix.kernels.sources.package_manager import Failure
from bpfmatrix.kernels.sources.release_file import Index

if TYPE_CHECKING:
    from debian.deb822 import Release

__all__ = ["HttpArchive"]

_RELEASE_BYTES = 16 << 20
_INDEX_BYTES = 1 << 30


@dataclass(frozen=True)
class HttpArchive(Archive):
    """A suite that is fetched with `bpfmatrix.host.download`."""

    @property
    def _layout(self) -> str:
        return " http"

    @property
    def _release(self) -> Path:
        return self.folder / "Release"

    @property
    def _base(self) -> str:
        return self.entry.uri.rstrip("/")

    def update(self, progress: Progress = silent) -> None:
        """See Archive."""
        progress(f"{self.suite}: fetching the index")
        text = self._verified()
        release = release_file.parse(text)
        # A mirror that is behind, or an attacker, may send an older state than the last one.
        if (known := self._known()) and _is_older(release, known):
            return
        wanted = self._indexes(release)
        for index in wanted:
            self._fetch_index(index)
        write_whole(self._release, text)
        for path in (self.folder / "lists").glob("*"):
            if path.name not in {index.sha256 for index in wanted}:
                path.unlink()

    def index(self) -> str:
        """See Archive."""
        release = self._known()
        if release is None:
            return ""
        texts = []
        for index in self._indexes(release):
            path = self._index_path(index)
            if not path.exists() or sha256_of(path) != index.sha256:
                return ""  # what is damaged is fetched again by the next update
            texts.append(_decompressed(path))
        return "\n\n".join(texts)

    def vendor(self) -> str:
        """See Archive."""
        release = self._known()
        return vendor_of(release.get("Label", "")) if release else ""

    def download(
        self, debs: Sequence[Deb], folder: Path, progress: Progress = silent
    ) -> list[Path]:
        """See Archive."""
        total, before = sum(deb.size_bytes for deb in debs), 0
        text = f"{debs[0].name} {debs[0].version}: fetching {total / 1e6:.0f} MB"
        files = []
        for deb in debs:

            def show(there: int, _: int, before: int = before) -> None:
                progress(text, min((before + there) / total, 1.0) if total else None)

            target = folder / PurePosixPath(deb.filename).name
            url = f"{self._base}/{deb.filename}"
            with self._failures(missing=apt_failures.GONE):
                download.fetch(url, target, deb.sha256, deb.size_bytes, show)
            files.append(target)
            before += deb.size_bytes
        return files

    def check(self) -> None:
        """See Archive."""
        self._verified()

    def _verified(self) -> bytes:
        """Return the text of the suite's InRelease, which is verified."""
        return release_file.verified(
            self._in_release(), self.entry, self.suite, self.entry.check_dates
        )

    def _in_release(self) -> bytes:
        folder = f"{self._base}/dists/{self.suite}"
        try:
            with self._failures():
                return download.read(f"{folder}/InRelease", limit_bytes=_RELEASE_BYTES)
        except download.MissingError as error:
            with self._failures(missing=apt_failures.NO_SUITE):
                download.read(f"{folder}/Release", limit_bytes=_RELEASE_BYTES)
            # There is a suite, but no file that is signed within itself.
            raise self._error(apt_failures.SIGNATURE, error.what) from error

    def _fetch_index(self, index: Index) -> None:
        path = self._index_path(index)
        if path.exists() and sha256_of(path) == index.sha256:
            return
        plain = f"{self._base}/dists/{self.suite}/{index.path}"
        if index.by_hash:
            by_hash = f"{plain.rpartition('/')[0]}/by-hash/SHA256/{index.sha256}"
            # A mirror need not have it: it is then under its name only.
            with contextlib.suppress(download.MissingError), self._failures():
                download.fetch(by_hash, path, index.sha256, _INDEX_BYTES)
                return
        with self._failures(missing=apt_failures.CHECKSUM):
            download.fetch(plain, path, index.sha256, _INDEX_BYTES)

    def _indexes(self, release: "Release") -> list[Index]:
        arch = ARCHITECTURES[self.arch].debian
        return release_file.indexes(release, self.entry.components, arch)

    def _index_path(self, index: Index) -> Path:
        return self.folder / "lists" / index.sha256

    def _known(self) -> "Release | None":
        """Return the Release file of the last update, which was verified then."""
        try:
            return release_file.parse(self._release.read_bytes())
        except OSError:
            return None

    def _error(self, failure: Failure, said: str) -> BpfmatrixError:
        return apt_failures.error_of(failure, self.entry, self.suite, said)

    @contextlib.contextmanager
    def _failures(self, missing: Failure | None = None) -> Iterator[None]:
        """Make the errors of downloads those of an archive; without `missing`, not MissingError."""
        try:
            yield
        except download.MissingError as error:
            if missing is None:
                raise
            raise self._error(missing, f"{error.what}.") from error
        except download.ContentError as error:
            raise self._error(apt_failures.CHECKSUM, f"{error.what}. {error.advice}") from error
        except UnreachableError as error:
            raise self._error(apt_failures.UNREACHABLE, f"{error.what}. {error.advice}") from error
        except KernelUnavailableError as error:
            raise self._error(apt_failures.OTHER, f"{error.what}. {error.advice}") from error


def _is_older(release: "Release", known: "Release") -> bool:
    return release_file.date_of(release, "Date") < release_file.date_of(known, "Date")


def _decompressed(path: Path) -> str:
    data = path.read_bytes()
    if compression.format_of(data):
        data = compression.decompress(data)
    return data.decode("utf-8", errors="replace")

"""A suite of an archive of Debian packages: its index, and its packages.

`Archive.of_host` and `Archive.of` choose how it is fetched: by the host's apt where there is one,
and by bpfmatrix itself elsewhere. Each suite, for each archive and architecture, has a folder of
its own in the cache, so the host's apt is not changed, and no rights are needed.
"""

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import AptSource
from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.architecture import DEFAULT
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.sources import apt_sources
from bpfmatrix.kernels.sources.apt_packages import KERNEL_STANZA, Deb, parse_index
from bpfmatrix.kernels.sources.apt_sources import AptEntry

__all__ = ["Archive"]


@dataclass(frozen=True)
class Archive(ABC):
    """One suite of an archive, for one architecture."""

    cache: Cache
    entry: AptEntry
    suite: str
    arch: str

    @staticmethod
    def of_host(cache: Cache, suite: str, arch: str) -> "Archive":
        """Return the suite of Debian's archive, as `apt_sources.find` has it for this host."""
        return _way()(cache, apt_sources.find(suite), suite, arch)

    @staticmethod
    def at(cache: Cache, entry: AptEntry, suite: str) -> "Archive":
        """Return the suite of an archive, for the default architecture."""
        return _way()(cache, entry, suite, DEFAULT.name)

    @classmethod
    def of(cls, cache: Cache, kernel: KernelConfig, source: AptSource) -> "Archive":
        """Return the suite of a kernel: of the archive that it names, or of Debian's."""
        if source.mirror is None or source.keyring is None:
            found = cls.of_host(cache, source.suite, kernel.arch)
            entry = replace(found.entry, components=tuple(source.components))
            return replace(found, entry=entry)
        keyring = kernel.root / source.keyring.expanduser()
        if not keyring.is_file():
            raise KernelUnavailableError(
                f"{keyring}: no such file",
                f"kernels.{kernel.id}.source.apt.keyring names it: the keys of {source.mirror}, "
                "such as the distribution's keyring package has them.",
            )
        components = tuple(source.components)
        entry = AptEntry(source.mirror, source.suite, keyring=keyring, components=components)
        return _way()(cache, entry, source.suite, kernel.arch)

    @property
    def folder(self) -> Path:
        """The folder of this suite in the cache, with its index."""
        identity = f"{self.entry.uri} {self.suite} {self.arch}"
        if self.entry.keyring or self.entry.components != ("main",):
            identity += f" {self.entry.keyring} {self.entry.components}"
        key = sha256(identity + self._layout)
        return self.cache.root / "apt" / f"{self.suite.replace('/', '_')}-{self.arch}-{key[:8]}"

    @property
    def _layout(self) -> str:
        """What is part of the folder's name if its files are not those of apt."""
        return ""

    @contextlib.contextmanager
    def locked(self) -> Iterator[Self]:
        """Hold the lock on the index, so that no other process changes it."""
        with self.cache.lock(f"apt-{self.folder.name}"):
            yield self

    @abstractmethod
    def update(self, progress: Progress = silent) -> None:
        """Fetch the suite's index, if it changed. The caller holds the lock.

        KernelUnavailableError if the archive does not have it, or if it is not to be trusted;
        UnreachableError if the archive does not answer.
        """

    @abstractmethod
    def check(self) -> None:
        """Ask for the suite's InRelease, and check it. The cache is not changed.

        The errors are those of `update`.
        """

    @abstractmethod
    def index(self) -> str:
        """Return the text of the index that was fetched last; empty if none was."""

    def debs(self, stanzas: re.Pattern[str] = KERNEL_STANZA) -> list[Deb]:
        """Return the kernel packages of the index that was fetched last; none if none was.

        For other packages, `stanzas` is a pattern for the start of their stanzas.
        """
        return parse_index(self.index(), stanzas)

    @abstractmethod
    def vendor(self) -> str:
        """Return the distributor of the suite, by its signed Release file: `Debian`."""

    @abstractmethod
    def download(
        self, debs: Sequence[Deb], folder: Path, progress: Progress = silent
    ) -> list[Path]:
        """Download packages into an empty folder, checked by the signed index."""


def vendor_of(label: str) -> str:
    """Return the distributor in the Label of a Release file."""
    # The labels of pockets are "Debian Backports" and "Debian-Security".
    return re.split(r"[ -]", label)[0]


def _way() -> type[Archive]:
    """Return the class of an archive on this host."""
    if apt_sources.host_has_apt():
        from bpfmatrix.kernels.sources.apt_get import AptGetArchive  # noqa: PLC0415

        return AptGetArchive
    from bpfmatrix.kernels.sources.apt_http import HttpArchive  # noqa: PLC0415

    return HttpArchive

"""What every source of kernels can do: the interface that the rest of `kernels` works with."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

from bpfmatrix.config.kernels_lock import Pin
from bpfmatrix.config.models import KernelConfig
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import KernelUnavailableError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.store import Store

__all__ = ["IndexedSource", "KernelSource", "Offer", "PointRelease", "dropped"]


@dataclass(frozen=True)
class Offer:
    """A kernel package that a source offers."""

    package: str
    version: str
    suite: str
    arch: str
    size_bytes: int


@dataclass(frozen=True)
class PointRelease:
    """One release that a source offers."""

    version: str
    """The upstream version, such as `6.1.187`; of an RPM package with the number of its build."""
    source: Source
    """The source of exactly this release, as kernels.yaml would declare it."""


@dataclass(frozen=True)
class KernelSource(ABC):
    """Where one kernel of kernels.yaml comes from."""

    kernel: KernelConfig

    @abstractmethod
    def fetch(self, store: Store, progress: Progress, same: bool) -> KernelImage:
        """Resolve the kernel, store its image unless it is there, and let the kernel point at it.

        `same` asks for the packages that the kernel resolved to before, if the source still has
        them. For a pinned kernel, only the packages of `kernel.pin` will do: `dropped` is the error
        if the source has others now. BpfmatrixError or OSError if that fails; UnreachableError if
        only the network is to blame.
        """

    def is_current(self, store: Store, image: KernelImage) -> bool:
        """Whether a stored image is still what the source has, as far as can be told offline."""
        return True

    @abstractmethod
    def check(self, cache: Cache) -> None:
        """Ask the source, with one small request, whether the kernel could be fetched.

        Raises what `fetch` would raise. Nothing is changed.
        """

    def differs_from_pin(self, store: Store, image: KernelImage) -> str:
        """Say what this host has in place of the pinned image: a clause, or "" if nothing.

        Only a kernel that is made here can differ without the network being asked.
        """
        return ""

    @property
    def place(self) -> Hashable | None:
        """What identifies the place where `releases` looks; None if it knows of no other release.

        Kernels of which this is the same share one place.
        """
        return None

    def releases(self, cache: Cache, progress: Progress) -> list[PointRelease]:
        """Return every release that is where this kernel comes from; nothing is fetched but lists.

        BpfmatrixError or OSError if that can't be known.
        """
        return []

    def other_ways(self, place: str) -> str:
        """Say how else the kernel may be had; an image that is put into `place` is one way."""
        return f"or put an image into {place}."


def dropped(where: str, pin: Pin, now: str) -> KernelUnavailableError:
    """Return the error for a source that no longer has the packages of a pinned kernel.

    `now` says what it has, such as the name and the version of a package.
    """
    gone = pin.packages[0]
    return KernelUnavailableError(
        f"{where} no longer has {gone.name} {gone.version}; it has {now} now"
    )


class IndexedSource(KernelSource):
    """A source that has an index of packages, of which a copy is kept in the cache."""

    @property
    @abstractmethod
    def index(self) -> Hashable:
        """What identifies the index: kernels of which this is the same share one."""

    @abstractmethod
    def refresh(self, cache: Cache, progress: Progress) -> None:
        """Fetch the index."""

    @abstractmethod
    def newest(self, cache: Cache) -> str:
        """Return the package version that the kernel would resolve to, by the cached index.

        KernelUnavailableError if the index has no such package.
        """

    def offers(self, cache: Cache, progress: Progress) -> list[Offer]:
        """Return the kernel packages of the index, which is fetched first; none if not known."""
        return []

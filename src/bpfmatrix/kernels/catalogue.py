"""The catalogue of what the sources of kernels.yaml offer, by their indexes of packages."""

from bpfmatrix.config.models import Config, KernelConfig
from bpfmatrix.errors import KernelUnavailableError, ToolMissingError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels import sources
from bpfmatrix.kernels.sources import IndexedSource, Offer

__all__ = ["Offer", "newest_available", "refresh", "search"]


def newest_available(kernel: KernelConfig, cache: Cache) -> str | None:
    """Return the package version that a kernel would resolve to, or None if it is not known.

    It is that of the index in the cache: no network is used (`refresh` fetches the index).
    """
    source = sources.of(kernel)
    try:
        return source.newest(cache) if isinstance(source, IndexedSource) else None
    except (KernelUnavailableError, ToolMissingError):
        return None


def search(config: Config, cache: Cache, text: str, progress: Progress = silent) -> list[Offer]:
    """Return the kernel packages with `text` in their name or version, of all suites declared."""
    return [
        offer
        for source in _indexed_sources(config)
        for offer in source.offers(cache, progress)
        if text in offer.package or text in offer.version
    ]


def refresh(config: Config, cache: Cache, progress: Progress = silent) -> None:
    """Fetch the indexes of all apt suites and dnf repositories that are declared."""
    for source in _indexed_sources(config):
        source.refresh(cache, progress)


def _indexed_sources(config: Config) -> list[IndexedSource]:
    """Return one source for each index of packages that is declared."""
    found = (sources.of(config.kernel(id)) for id in config.kernels)
    return list({each.index: each for each in found if isinstance(each, IndexedSource)}.values())

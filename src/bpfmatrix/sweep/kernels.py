"""The kernels of a sweep: what the sources offer now, which of it is swept, and its newest images.

`offered` asks the sources, `chosen` says which ids are swept, and `resolved` fetches the newest
release of each. A source that can't be asked, or a kernel that can't be fetched, keeps no other
from being swept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bpfmatrix import kernels
from bpfmatrix.config.kernel_ids import kernel_of
from bpfmatrix.config.models import Config
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.series import Available, available

__all__ = ["Offered", "Resolved", "chosen", "offered", "resolved"]


@dataclass(frozen=True)
class Offered:
    """What the sources of kernels.yaml offer now."""

    available: Available
    failures: tuple[str, ...] = ()
    """A sentence for each source that could not be asked."""


@dataclass(frozen=True)
class Resolved:
    """The newest images of the kernels of a sweep."""

    images: dict[str, KernelImage] = field(default_factory=dict)
    """By the ids of kernels; ids that name a profile are separate."""
    failures: dict[str, str] = field(default_factory=dict)
    """Why a kernel has no image, by its id."""


def offered(config: Config, cache: Cache, progress: Progress = silent) -> Offered:
    """Ask the declared sources what they offer now, whatever kernels.lock pins."""
    problems: list[str] = []
    found = available(config.unpinned(), cache, progress, problems)
    return Offered(found, tuple(dict.fromkeys(problems)))


def chosen(declared: Config, found: Available, arch: str | None) -> list[str]:
    """Return the ids of a sweep: those of the matrix, and one for each series that is offered.

    `declared` is kernels.yaml. With an architecture, these are all of that architecture; without,
    the series are those of the default one. A series that the matrix has, with or without a
    profile, is not added again.
    """
    wanted = arch or declared.defaults.arch
    config = found.config
    matrix = [id for id in declared.matrix_ids if arch in (None, config.kernel(id).arch)]
    series = found.ids
    if wanted != declared.defaults.arch:
        series = tuple(id for id in config.kernels if id not in declared.kernels)
        series += tuple(id for id, entry in declared.kernels.items() if entry.source.apt)
        series = tuple(id for id in series if config.kernel(id).arch == wanted)
    known = {kernel_of(id) for id in matrix}
    return [*matrix, *(id for id in series if id not in known)]


def resolved(
    config: Config,
    ids: Sequence[str],
    cache: Cache,
    progress: Callable[[str], Progress] = lambda _: silent,
) -> Resolved:
    """Resolve each kernel to the newest release of its source, as `kernels.update` does.

    kernels.lock stays as it is.

    `progress` returns what the progress of a kernel is reported to, given its id.
    """
    found = Resolved()
    images: dict[str, KernelImage] = {}
    failures: dict[str, str] = {}
    for id in ids:
        plain = kernel_of(id)
        if plain not in images and plain not in failures:
            try:
                images[plain] = kernels.update(config.kernel(plain), cache, progress(plain))
            except BpfmatrixError as error:
                failures[plain] = error.what.removeprefix(f"{plain}: ")
        if plain in images:
            found.images[id] = images[plain]
        else:
            found.failures[id] = failures[plain]
    return found

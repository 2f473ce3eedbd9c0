"""Every release that the sources of kernels.yaml offer, whatever kind they are of.

`offered` lists the suites, repositories, registries and folders that kernels.yaml names, the
registry to which kernels were pushed, and the kernels that lie in `ci-kernels/` and below
`KERN_DIR`. It makes an entry for each release, so that a bisection can try it.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.models import Config, KernelConfig, KernelEntry
from bpfmatrix.config.sources import Source
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.host.versions import numbers, upstream
from bpfmatrix.kernels import catalogue, series, sources
from bpfmatrix.kernels.build.source import BuildKernel
from bpfmatrix.kernels.pinned import pin_of, registry_of
from bpfmatrix.kernels.placed_images import PROJECT_FOLDER, VARIABLE
from bpfmatrix.kernels.provision import cached
from bpfmatrix.kernels.series import LeftOut
from bpfmatrix.kernels.sources import PointRelease
from bpfmatrix.kernels.sources.directory import releases_in

__all__ = ["Place", "Releases", "offered", "place_of"]

Place = tuple[float, ...]
"""Where a kernel stands among the others: `(6, 1, 192)`, and behind all releases of a series, whose
newest one is not known, `(6, 1, inf)`. The release candidate `6.2-rc3` is `(6, 2, -1, 3)`."""

# A release at the beginning of an id, and either a release candidate, or the number of a build,
# which only a whole release has: 5.14.0-427 of 5.14.0-427.el9.
_RELEASE = re.compile(
    r"(?P<series>\d+\.\d+)"
    r"(?:(?:\.0)?[-~]rc(?P<candidate>\d+)(?!\w)"
    r"|(?P<rest>\.\d+(?:\.\d+)*(?:-\d+(?:\.\d+)*(?!\w))?)?)"
)
_NEWEST = float("inf")


@dataclass(frozen=True)
class Releases:
    """What the sources offer."""

    config: Config
    """The declared kernels, and an entry for each series and each release that is offered."""
    places: dict[str, Place]
    """Each kernel's place among the others, by its id; without ids that name no release."""
    preferred: frozenset[str]
    """The ids of kernels.yaml."""
    left_out: tuple[LeftOut, ...]
    """The series of which no suite has all packages."""
    problems: tuple[str, ...]
    """A sentence for each source that could not be read."""
    unbuilt: frozenset[str]
    """The kernels that would have to be built, which takes minutes. Without `build`, they have no
    places, and only those of kernels.yaml are here."""


def offered(
    config: Config, cache: Cache, progress: Progress = silent, *, build: bool = False
) -> Releases:
    """Find every release that the declared sources have now; fetches their lists.

    A source that can't be read is a problem, and the others are read. What has to be built is
    offered only with `build`; a kernel whose build is there already is always offered.
    """
    problems: list[str] = []
    found = series.available(config, cache, progress, problems)
    entries = dict(found.releases)
    for arch, release in _of_other_sources(config, cache, progress, build, problems):
        id = _id(config, arch, release.version)
        # What is at hand comes first, and a build last: `_of_other_sources` gives it in that order.
        entries.setdefault(id, _entry(config, arch, release))
    kernels = {**entries, **found.config.kernels}
    extended = found.config.model_copy(update={"kernels": kernels})
    unbuilt = frozenset(_unbuilt(extended, cache))
    places = {}
    for id in kernels:
        left_out = id in unbuilt and not build
        if not left_out and (place := _known_place(extended, id, cache)):
            places[id] = place
    return Releases(
        extended, places, frozenset(config.kernels), found.left_out, tuple(problems), unbuilt
    )


def place_of(text: str) -> Place:
    """Return the place of an id or a release; empty if it does not begin with a release."""
    match = _RELEASE.match(text)
    if match is None:
        return ()
    series = tuple(map(float, match["series"].split(".")))
    if match["candidate"]:
        return (*series, -1, float(match["candidate"]))
    rest = re.findall(r"\d+", match["rest"] or "")
    return (*series, *map(float, rest)) if rest else (*series, _NEWEST)


def _known_place(config: Config, id: str, cache: Cache) -> Place:
    """Return the place of a kernel; that of a series is the release that would run."""
    place = place_of(id)
    if not place or place[-1] != _NEWEST:
        return place
    kernel = config.kernel(id)
    if image := cached(kernel, cache):
        version, build = image.version, image.provenance.packages[0].version
    elif pin := pin_of(kernel):
        version, build = pin.version, pin.packages[0].version
    else:
        version = build = catalogue.newest_available(kernel, cache) or ""
    if kernel.source.dnf:  # a release of the kernel has many builds there
        release = place_of(build.rpartition(":")[2])
    else:
        release = tuple(map(float, numbers(upstream(version)))) if version else ()
    # An id may say `6.1` and mean a file of another release: its name decides.
    return release if len(release) > 2 and release[:2] == place[:2] else place


def _of_other_sources(
    config: Config, cache: Cache, progress: Progress, build: bool, problems: list[str]
) -> Iterator[tuple[str, PointRelease]]:
    """Give what sources other than apt have, for each architecture that is declared."""
    kernels = [config.kernel(id) for id in config.kernels]
    arches = {kernel.arch for kernel in kernels}
    for folder in _folders(kernels):
        progress(f"{folder}: looking for kernels")
        try:
            found = releases_in(folder, problems)
            yield from ((arch, release) for arch, release in found if arch in arches)
        except OSError as error:
            problems.append(f"{folder} can't be read ({error.strerror})")
    places = [*_builds_last(kernels), *_of_registry(kernels)]
    seen = set()
    for kernel in places:
        if kernel.source.apt or (kernel.source.build and not build):
            continue
        source = sources.of(kernel)
        if (place := source.place) is None or place in seen:
            continue
        seen.add(place)
        try:
            yield from ((kernel.arch, release) for release in source.releases(cache, progress))
        except BpfmatrixError as error:
            problems.append(error.what)
        except OSError as error:
            problems.append(f"{error.filename} can't be read ({error.strerror})")


def _of_registry(kernels: list[KernelConfig]) -> list[KernelConfig]:
    """Return kernels that stand for the registry to which kernels were pushed: one for each arch.

    The architectures are those that are declared.
    """
    if (repository := registry_of(kernels[0])) is None:
        return []
    source = Source(oci=f"{repository}:0.0.0")
    arches = dict.fromkeys(kernel.arch for kernel in kernels)
    return [kernels[0].model_copy(update={"arch": arch, "source": source}) for arch in arches]


def _builds_last(kernels: Iterable[KernelConfig]) -> list[KernelConfig]:
    return sorted(kernels, key=lambda kernel: kernel.source.build is not None)


def _folders(kernels: list[KernelConfig]) -> list[Path]:
    """Return the folders with kernels: those for all of kernels.yaml, and those of its sources."""
    named = os.environ.get(VARIABLE)
    places = [Path(named).expanduser().absolute()] if named else []
    places += [kernel.root / PROJECT_FOLDER for kernel in kernels]
    places += [
        kernel.root / kernel.source.directory for kernel in kernels if kernel.source.directory
    ]
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def _unbuilt(config: Config, cache: Cache) -> Iterator[str]:
    for id in config.kernels:
        kernel = config.kernel(id)
        if not kernel.source.build or cached(kernel, cache) is not None:
            continue
        if not BuildKernel(kernel).is_built:
            yield id


def _id(config: Config, arch: str, version: str) -> str:
    """Return the id of an entry: `6.1.187`, or `6.1.187-arm64` if arm64 is not the default."""
    name = re.sub(r"[^A-Za-z0-9._+-]", "-", version)
    return name if arch == config.defaults.arch else f"{name}-{ARCHITECTURES[arch].debian}"


def _entry(config: Config, arch: str, release: PointRelease) -> KernelEntry:
    given = {release.source.kind: getattr(release.source, release.source.kind)}
    entry: dict[str, object] = {"source": given}
    if arch != config.defaults.arch:
        entry["arch"] = arch
    return KernelEntry.model_validate(entry)

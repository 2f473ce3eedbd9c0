"""What the sources of kernels.yaml offer: the newest of a series, and all that a suite has.

`newest` is what a kernel would resolve to, `search` lists packages, and `available` makes an entry
for each series and each release that the declared apt suites have, so that all of them can run
without being declared one by one.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bpfmatrix.config.models import Config, KernelConfig, KernelEntry
from bpfmatrix.config.sources import AptSource
from bpfmatrix.errors import KernelUnavailableError, ToolMissingError, UnreachableError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.host.versions import all_numbers
from bpfmatrix.kernels.fetch import apt_pattern
from bpfmatrix.kernels.sources import debian, dnf
from bpfmatrix.kernels.sources.apt import Archive
from bpfmatrix.kernels.sources.debian import Deb

__all__ = ["Available", "Offer", "available", "newest", "refresh", "search"]

_Key = tuple[str, tuple[int, ...]]
# The release in a pattern of packages: `6.8.*` of `linux-image-6.8.*-generic`.
_SERIES_OF_PATTERN = re.compile(r"\d+\.\d+(?:\.\*)?")


@dataclass(frozen=True)
class Offer:
    """A package that a source offers."""

    package: str
    version: str
    suite: str
    arch: str
    size_bytes: int


@dataclass(frozen=True)
class LeftOut:
    """A series that a suite has, but not all packages of."""

    id: str
    arch: str
    why: str
    """A sentence."""


@dataclass(frozen=True)
class Available:
    """Every series, and every release, that the suites have."""

    config: Config
    """The declared kernels, and an entry for each series that none of them stands for."""
    ids: tuple[str, ...]
    """The series of the default architecture, oldest first, by their (declared or new) ids."""
    releases: Mapping[str, KernelEntry]
    """An entry for each single release, such as `6.1.187`, of which not all parts are gone."""
    left_out: tuple[LeftOut, ...]
    """The series whose packages are not all there any more."""


@dataclass(frozen=True)
class _Found:
    version: str
    entry: KernelEntry


def newest(kernel: KernelConfig, cache: Cache) -> str | None:
    """Return the package version that a kernel would resolve to, by the index that is there."""
    try:
        if kernel.source.apt is not None:
            pattern = apt_pattern(kernel, kernel.source.apt)
            debs = _index(cache, kernel, kernel.source.apt)
            return debian.resolve(debs, pattern, kernel.source.apt.suite)[0].version
        if kernel.source.dnf is not None:
            repository = dnf.Repository.of(cache, kernel, kernel.source.dnf)
            with repository.locked():
                return repository.newest(dnf.pattern(kernel, kernel.source.dnf)).version
    except (KernelUnavailableError, ToolMissingError):
        pass
    return None


def search(config: Config, cache: Cache, text: str, progress: Progress = silent) -> list[Offer]:
    """Return the kernel packages with `text` in their name or version, of all suites declared."""
    return [
        Offer(deb.name, deb.version, source.suite, kernel.arch, deb.size_bytes)
        for kernel, source in _suites(config)
        for deb in _index(cache, kernel, source, refresh=True, progress=progress)
        if deb.name.startswith("linux-image-") and (text in deb.name or text in deb.version)
    ]


def refresh(config: Config, cache: Cache, progress: Progress = silent) -> None:
    """Fetch the indexes of all apt suites and dnf repositories that are declared."""
    for kernel, source in _suites(config):
        _index(cache, kernel, source, refresh=True, progress=progress)
    for kernel in (config.kernel(id) for id in config.kernels):
        if kernel.source.dnf is not None:
            repository = dnf.Repository.of(cache, kernel, kernel.source.dnf)
            with repository.locked(), contextlib.suppress(UnreachableError):
                repository.update(progress)


def available(config: Config, cache: Cache, progress: Progress = silent) -> Available:
    """Find what the declared apt suites have now; fetches their indexes.

    A declared kernel stands for its series, whichever suites have it too. Of the others, the suite
    with the newest release is taken.
    """
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    whole: dict[_Key, _Found] = {}
    single: dict[_Key, _Found] = {}
    missing: dict[_Key, str] = {}
    for kernel, source in _suites(config):
        flavour = _flavour(source, kernel.arch)
        if flavour is None:
            continue
        debs = _index(cache, kernel, source, refresh=True, progress=progress)
        # The newest of a series comes last, so that it is the one that is said to be incomplete.
        for deb in sorted(debian.matching(debs, flavour), key=lambda deb: Version(deb.version)):
            key = (kernel.arch, all_numbers(deb.upstream_version))
            series = (kernel.arch, key[1][:2])
            gone = debian.closure(debs, deb)[1]
            if gone:
                why = f"{source.suite} has {deb.name} but no longer {gone}, which it needs"
                missing[series] = why
                continue
            _keep(whole, series, deb, _entry(config, kernel, source, series))
            _keep(single, key, deb, _entry(config, kernel, source, key, deb.name))
    declared = dict(_declared_series(config))
    kernels, ids, left_out = dict(config.kernels), [], []
    for key in sorted(whole.keys() | (missing.keys() - declared.keys())):
        id = declared.get(key) or _id(config, key)
        if key not in whole:
            left_out.append(LeftOut(id, key[0], f"{id} is left out: {missing[key]}"))
            continue
        kernels.setdefault(id, whole[key].entry)
        ids += [id] if key[0] == config.defaults.arch else []
    releases = {_id(config, key): single[key].entry for key in sorted(single)}
    extended = config.model_copy(update={"kernels": kernels})
    return Available(extended, tuple(ids), releases, tuple(left_out))


def _suites(config: Config) -> Iterator[tuple[KernelConfig, AptSource]]:
    """Give each apt suite that is declared, once for each architecture and kind of package."""
    seen = set()
    for kernel in (config.kernel(id) for id in config.kernels):
        if (source := kernel.source.apt) is not None:
            key = (source.suite, source.mirror, kernel.arch, _flavour(source, kernel.arch))
            if key not in seen:
                seen.add(key)
                yield kernel, source


def _flavour(source: AptSource, arch: str) -> str | None:
    """Return the pattern of a source's packages of any series; None if it names just one."""
    if source.package is None:
        return f"linux-image-*-cloud-{ARCHITECTURES[arch].debian}"
    if "*" not in source.package:
        return None
    return _SERIES_OF_PATTERN.sub("*", source.package, count=1)


def _id(config: Config, key: _Key) -> str:
    arch, numbers = key
    name = ".".join(str(number) for number in numbers)
    return name if arch == config.defaults.arch else f"{name}-{ARCHITECTURES[arch].debian}"


def _keep(found: dict[_Key, _Found], key: _Key, deb: Deb, entry: KernelEntry) -> None:
    """Take note of a package, unless a newer one of the same key is known."""
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    if key not in found or Version(found[key].version) < Version(deb.version):
        found[key] = _Found(deb.version, entry)


def _entry(
    config: Config, kernel: KernelConfig, source: AptSource, key: _Key, package: str | None = None
) -> KernelEntry:
    given = source.model_dump(exclude_unset=True)
    if package is not None:
        given["package"] = package
    elif source.package is not None:
        series = ".".join(str(number) for number in key[1])
        given["package"] = _SERIES_OF_PATTERN.sub(f"{series}.*", source.package, count=1)
    entry: dict[str, object] = {"source": {"apt": given}}
    if kernel.arch != config.defaults.arch:
        entry["arch"] = kernel.arch
    return KernelEntry.model_validate(entry)


def _declared_series(config: Config) -> Iterator[tuple[_Key, str]]:
    """Give the declared kernels that stand for a whole series, as `6.1` and `6.1-arm64` do."""
    for id in reversed(config.kernels):
        kernel = config.kernel(id)
        match = re.fullmatch(r"(\d+)\.(\d+)(?:-[a-z][a-z0-9]*)?", id)
        if match and kernel.source.apt:
            yield (kernel.arch, (int(match[1]), int(match[2]))), id


def _index(
    cache: Cache,
    kernel: KernelConfig,
    source: AptSource,
    refresh: bool = False,
    progress: Progress = silent,
) -> list[Deb]:
    archive = Archive.of(cache, kernel, source)
    with archive.locked():
        if refresh:
            try:
                archive.update(progress)
            except UnreachableError as error:
                if not archive.debs():
                    raise
                progress(f"{error.what}; this is from the index that was fetched last")
        return archive.debs()

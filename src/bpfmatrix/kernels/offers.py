"""What the sources of kernels.yaml offer: the newest of a series, and every series of a suite.

`newest` is what a kernel would resolve to, `search` lists packages, and `available` makes an entry
for each series that the declared apt suites have, so that all of them can run without being
declared one by one.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bpfmatrix.cache import Cache
from bpfmatrix.config import AptSource, Arch, Config, KernelConfig, KernelEntry, Source
from bpfmatrix.errors import KernelUnavailableError, ToolMissingError, UnreachableError
from bpfmatrix.kernels import debian, dnf
from bpfmatrix.kernels.apt import Archive
from bpfmatrix.kernels.debian import DEB_ARCH, Deb
from bpfmatrix.kernels.fetch import apt_pattern
from bpfmatrix.progress import Progress, silent

__all__ = ["Available", "Offer", "available", "newest", "refresh", "search"]

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
    arch: Arch
    why: str
    """A sentence."""


@dataclass(frozen=True)
class Available:
    """Every series that the suites have."""

    config: Config
    """The declared kernels, and an entry for each series that none of them stands for."""
    ids: tuple[str, ...]
    """The series of the default architecture, oldest first, by their (declared or new) ids."""
    left_out: tuple[LeftOut, ...]
    """The series whose packages are not all there any more."""


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
    """Find every series that the declared apt suites have now; fetches their indexes.

    A declared kernel stands for its series, whichever suites have it too. Of the others, the suite
    with the newest release is taken.
    """
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    found: dict[tuple[Arch, tuple[int, ...]], tuple[Version, KernelEntry]] = {}
    missing: dict[tuple[Arch, tuple[int, ...]], str] = {}
    for kernel, source in _suites(config):
        debs = _index(cache, kernel, source, refresh=True, progress=progress)
        for series in _series(debs, source, kernel.arch):
            key, entry = (kernel.arch, series), _entry(config, kernel, source, series)
            name = _name(series)
            try:
                pattern = entry.source.apt.package if entry.source.apt else None
                wanted = pattern or debian.default_pattern(name, kernel.arch)
                version = Version(debian.resolve(debs, wanted, source.suite)[0].version)
            except KernelUnavailableError as error:
                missing[key] = error.what
                continue
            if key not in found or found[key][0] < version:
                found[key] = (version, entry)
    declared = dict(_declared_series(config))
    default, kernels = config.defaults.arch, dict(config.kernels)
    ids, left_out = [], []
    for key in sorted(found.keys() | (missing.keys() - declared.keys())):
        arch, series = key
        id = declared.get(key) or _name(series) + ("" if arch == default else f"-{DEB_ARCH[arch]}")
        if key not in found:
            left_out.append(LeftOut(id, arch, f"{id} is left out: {missing[key]}"))
            continue
        kernels.setdefault(id, found[key][1])
        ids += [id] if arch == default else []
    return Available(config.model_copy(update={"kernels": kernels}), tuple(ids), tuple(left_out))


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
        return f"linux-image-*-cloud-{DEB_ARCH[arch]}"
    if "*" not in source.package:
        return None
    return _SERIES_OF_PATTERN.sub("*", source.package, count=1)


def _series(debs: Sequence[Deb], source: AptSource, arch: str) -> list[tuple[int, ...]]:
    """Return the series that a suite has packages of the source's kind of: `(6, 1)`."""
    flavour = _flavour(source, arch)
    names = debian.matching(debs, flavour) if flavour else []
    found = {tuple(int(part) for part in deb.upstream_version.split(".")[:2]) for deb in names}
    return sorted(found)


def _name(series: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in series)


def _entry(
    config: Config, kernel: KernelConfig, source: AptSource, series: tuple[int, ...]
) -> KernelEntry:
    given = source.model_dump(exclude_unset=True)
    if source.package is not None:
        given["package"] = _SERIES_OF_PATTERN.sub(f"{_name(series)}.*", source.package, count=1)
    entry = {"source": Source(apt=AptSource.model_validate(given))}
    other = {} if kernel.arch == config.defaults.arch else {"arch": kernel.arch}
    return KernelEntry.model_validate({**entry, **other})


def _declared_series(config: Config) -> Iterator[tuple[tuple[Arch, tuple[int, ...]], str]]:
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

"""All series and releases of the declared apt suites, so that they can run without declaring each.

`available` reads the index of every apt suite in kernels.yaml, and makes an entry for each series
(`6.1`) and for each single release (`6.1.187`) that is in one of them.

A suite may have a kernel in several flavours, such as `cloud-amd64` and `rt-amd64`. An entry that
is made here is of the default flavour if that is declared and has the release.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bpfmatrix.config.models import Config, KernelConfig, KernelEntry
from bpfmatrix.config.sources import AptSource
from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.host.versions import all_numbers
from bpfmatrix.kernels.sources import apt_packages
from bpfmatrix.kernels.sources.apt import AptKernel

__all__ = ["Available", "LeftOut", "available", "common_flavours", "flavour_of"]

# An architecture, and the numbers of a series (6, 1) or of a release (6, 1, 187).
_Key = tuple[str, tuple[int, ...]]
# The release in a pattern of packages: `6.8.*` of `linux-image-6.8.*-generic`.
_SERIES_OF_PATTERN = re.compile(r"\d+\.\d+(?:\.\*)?")
# The release in a package's name or pattern, with its ABI: `-6.1.0-56` and `-6.8.*`.
_RELEASE_OF_PACKAGE = re.compile(r"-(?:\d+\.\d|\*)[^-]*(?:-(?:\d+|\*)(?=-|$))*")


@dataclass(frozen=True)
class LeftOut:
    """A series that can't run, as the suite no longer has all of its packages."""

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
    """An entry for each release, such as `6.1.187`, of which a suite has all packages."""
    left_out: tuple[LeftOut, ...]
    """The series of which no suite has all packages."""


@dataclass(frozen=True)
class _Newest:
    """The entry of the newest package that was found for a key."""

    rank: int
    """How its flavour stands among others: see `_rank`."""
    flavour: str
    package_version: str
    entry: KernelEntry


def flavour_of(kernel: KernelConfig) -> str:
    """Return the flavour of a kernel, which is the name of its package without the release.

    It is `linux-image-rt-amd64` for `linux-image-6.1.*-rt-amd64`, and empty for a kernel from
    elsewhere than an archive of Debian packages.
    """
    if (source := kernel.source.apt) is None:
        return ""
    if source.package is None:
        return _default_flavour(kernel.arch)
    return _RELEASE_OF_PACKAGE.sub("", source.package, count=1)


def _default_flavour(arch: str) -> str:
    return f"linux-image-{ARCHITECTURES[arch].debian_kernel}"


def common_flavours(config: Config, arch: str) -> frozenset[str]:
    """Return the default flavour, and those of kernels whose ids say nothing but their releases.

    `6.1`, `6.1.187` and `6.1-arm64` are such ids, and `6.1-rt` is none.
    """
    suffix = "" if arch == config.defaults.arch else f"-{ARCHITECTURES[arch].debian}"
    plain = re.compile(rf"\d+(?:\.\d+)+{suffix}")
    kernels = [config.kernel(id) for id in config.kernels if plain.fullmatch(id)]
    found = {flavour_of(kernel) for kernel in kernels if kernel.arch == arch}
    return frozenset({_default_flavour(arch), *found} - {""})


def available(
    config: Config, cache: Cache, progress: Progress = silent, problems: list[str] | None = None
) -> Available:
    """Find what the declared apt suites have now; fetches their indexes.

    A declared kernel stands for its series, whichever suites have it too. Of the others, the suite
    with the newest release is taken. BpfmatrixError if a suite can't be read; with a list of
    `problems`, that is added to it instead, and the other suites are read.
    """
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    series: dict[_Key, _Newest] = {}
    releases: dict[_Key, _Newest] = {}
    incomplete: dict[_Key, tuple[str, str]] = {}
    for kernel, source in _suites(config):
        pattern = _any_series(source, kernel.arch)
        if pattern is None:
            continue
        try:
            debs = AptKernel(kernel).debs(cache, refresh=True, progress=progress)
        except BpfmatrixError as error:
            if problems is None:
                raise
            problems.append(error.what)
            continue
        # By version, so that the newest incomplete package of a series is the one that is named.
        found = sorted(apt_packages.matching(debs, pattern), key=lambda deb: Version(deb.version))
        flavour = (_rank(config, kernel), flavour_of(kernel))
        for deb in found:
            release_key = (kernel.arch, all_numbers(deb.upstream_version))
            series_key = (kernel.arch, release_key[1][:2])
            if missing := apt_packages.closure(debs, deb)[1]:
                why = f"{source.suite} has {deb.name} but no longer {missing}, which it needs"
                incomplete[series_key] = (flavour[1], why)
                continue
            entry = _entry(config, kernel, source, series_key)
            _keep_newest(series, series_key, _Newest(*flavour, deb.version, entry))
            entry = _entry(config, kernel, source, release_key, deb.name)
            _keep_newest(releases, release_key, _Newest(*flavour, deb.version, entry))
    return _with_declared(config, series, releases, incomplete)


def _rank(config: Config, kernel: KernelConfig) -> int:
    """Return 0 for a kernel of the default flavour, 1 for other common ones, 2 for the rest."""
    flavour = flavour_of(kernel)
    if flavour == _default_flavour(kernel.arch):
        return 0
    return 1 if flavour in common_flavours(config, kernel.arch) else 2


def _with_declared(
    config: Config,
    series: Mapping[_Key, _Newest],
    releases: Mapping[_Key, _Newest],
    incomplete: Mapping[_Key, tuple[str, str]],
) -> Available:
    """Add what was found to the declared kernels.

    `incomplete` has the flavour of a package that can't run, and a sentence that says why.
    """
    declared = dict(_declared_series(config))
    kernels, ids, left_out = dict(config.kernels), [], []
    for key in sorted(series.keys() | incomplete.keys()):
        flavour = series[key].flavour if key in series else incomplete[key][0]
        # An id that is only a series stands for it, of whichever flavour it is.
        plain = _id(config, key)
        id = plain if plain in declared.values() else declared.get((key, flavour), plain)
        if key not in series:
            if id not in declared.values():
                left_out.append(LeftOut(id, key[0], f"{id} is left out: {incomplete[key][1]}"))
            continue
        kernels.setdefault(id, series[key].entry)
        ids += [id] if key[0] == config.defaults.arch else []
    entries = {_id(config, key): releases[key].entry for key in sorted(releases)}
    extended = config.model_copy(update={"kernels": kernels})
    return Available(extended, tuple(ids), entries, tuple(left_out))


def _suites(config: Config) -> Iterator[tuple[KernelConfig, AptSource]]:
    """Give each apt suite that is declared, once for each architecture and pattern of packages."""
    seen = set()
    for kernel in (config.kernel(id) for id in config.kernels):
        if (source := kernel.source.apt) is not None:
            key = (source.suite, source.mirror, kernel.arch, _any_series(source, kernel.arch))
            if key not in seen:
                seen.add(key)
                yield kernel, source


def _any_series(source: AptSource, arch: str) -> str | None:
    """Return a source's pattern of packages for any series; None if it names a single package."""
    if source.package is None:
        return f"linux-image-*-{ARCHITECTURES[arch].debian_kernel}"
    if "*" not in source.package:
        return None
    return _SERIES_OF_PATTERN.sub("*", source.package, count=1)


def _id(config: Config, key: _Key) -> str:
    """Return the id of an entry: `6.1`, or `6.1-arm64` if arm64 is not the default."""
    arch, numbers = key
    name = ".".join(str(number) for number in numbers)
    return name if arch == config.defaults.arch else f"{name}-{ARCHITECTURES[arch].debian}"


def _keep_newest(found: dict[_Key, _Newest], key: _Key, one: _Newest) -> None:
    """Keep the newest package of a key, of those with the most common flavour."""
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    def place(newest: _Newest) -> tuple[int, Version]:
        return -newest.rank, Version(newest.package_version)

    if key not in found or place(found[key]) < place(one):
        found[key] = one


def _entry(
    config: Config, kernel: KernelConfig, source: AptSource, key: _Key, package: str | None = None
) -> KernelEntry:
    """Return an entry for a series of a declared kernel's suite, or for one `package` of it."""
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


def _declared_series(config: Config) -> Iterator[tuple[tuple[_Key, str], str]]:
    """Give the declared kernels that stand for a whole series, as `6.1` and `6.1-arm64` do.

    Each has its flavour beside its key.
    """
    for id in reversed(config.kernels):
        kernel = config.kernel(id)
        match = re.fullmatch(r"(\d+)\.(\d+)(?:-[a-z][a-z0-9]*)?", id)
        if match and kernel.source.apt:
            yield ((kernel.arch, (int(match[1]), int(match[2]))), flavour_of(kernel)), id

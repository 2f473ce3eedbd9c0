"""The sources of libbpf that `loader-libbpf` is built from: fetched from Debian, and pinned.

Debian's packages of the kernel's sources have libbpf in tools/lib/bpf. `obtain` fetches such a
package through apt, takes out of it the files that libbpf is compiled from, and compares these with
the pinned checksum: any other libbpf is refused. A tar file of them stays in the cache; the package
does not.
"""

import io
import lzma
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.errors import BpfmatrixError, BuildError, KernelUnavailableError, UnreachableError
from bpfmatrix.host import derived
from bpfmatrix.host.architecture import DEFAULT
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.progress import Progress

if TYPE_CHECKING:
    from bpfmatrix.kernels.build.source_trees import Debian

__all__ = ["INCLUDES", "KEY", "PINNED", "VERSION", "Pin", "check", "digest", "obtain"]

VERSION = "1.8"
"""The version of the pinned libbpf, as its libbpf_version.h has it."""

INCLUDES = ("tools/lib/bpf", "tools/include", "tools/include/uapi")
"""The folders of headers that libbpf is compiled with, relative to the tar file's root."""


@dataclass(frozen=True)
class Pin:
    """A package of Debian that has the pinned libbpf."""

    series: str
    """The package is `linux-source-` and this."""
    suite: str
    """The suite that had the package; others are looked at if it no longer has it."""
    digest: str
    """The checksum of its libbpf, see `digest`."""


# The first that can be had is taken. All of them are to have the same libbpf, but a checksum covers
# headers of the kernel too, which may differ between two series.
PINNED = (
    # Seen to match: 7.3.4-1~bpo13+1. The releases of 7.2 have a libbpf from before 1.8.
    Pin(
        "7.3",
        "trixie-backports",
        "16e386ecc2e33fe20829f5a2bc5d84cce51044d9b094e9c4e33b64b26c10b476",
    ),
)

_FOLDER = "tools/lib/bpf"
# What the files of that folder include beside each other and the C library. A release of the kernel
# that changes other headers has the same checksum.
_HEADERS = (
    "tools/arch/arm64/include/asm/barrier.h",
    "tools/arch/powerpc/include/asm/barrier.h",
    "tools/arch/s390/include/asm/barrier.h",
    "tools/arch/x86/include/asm/barrier.h",
    "tools/include/asm/barrier.h",
    "tools/include/linux/build_bug.h",
    "tools/include/linux/compiler-context-analysis.h",
    "tools/include/linux/compiler-gcc.h",
    "tools/include/linux/compiler.h",
    "tools/include/linux/compiler_types.h",
    "tools/include/linux/container_of.h",
    "tools/include/linux/err.h",
    "tools/include/linux/filter.h",
    "tools/include/linux/kernel.h",
    "tools/include/linux/math.h",
    "tools/include/linux/panic.h",
    "tools/include/linux/ring_buffer.h",
    "tools/include/linux/types.h",
    "tools/include/uapi/linux/bpf.h",
    "tools/include/uapi/linux/bpf_common.h",
    "tools/include/uapi/linux/bpf_perf_event.h",
    "tools/include/uapi/linux/btf.h",
    "tools/include/uapi/linux/filter.h",
    "tools/include/uapi/linux/genetlink.h",
    "tools/include/uapi/linux/if_addr.h",
    "tools/include/uapi/linux/if_link.h",
    "tools/include/uapi/linux/neighbour.h",
    "tools/include/uapi/linux/netdev.h",
    "tools/include/uapi/linux/netlink.h",
    "tools/include/uapi/linux/perf_event.h",
    "tools/include/uapi/linux/pkt_cls.h",
    "tools/include/uapi/linux/pkt_sched.h",
    "tools/include/uapi/linux/rtnetlink.h",
    "tools/include/uapi/linux/stat.h",
)

KEY = sha256(repr((PINNED, _HEADERS)))
"""The checksum of what decides which files `obtain` gives."""


def obtain(cache: Cache, progress: Progress) -> Path:
    """Return a tar file with the sources, which is made if the cache has none.

    UnreachableError without a network, KernelUnavailableError if Debian has no such package any
    more, BuildError if the package has another libbpf.
    """
    target = cache.root / "loader-sources" / f"libbpf-{VERSION}-{KEY[:16]}.tar"
    return derived.obtain(
        cache,
        target,
        f"the source of libbpf {VERSION}",
        lambda made: _fetch(made, cache, progress),
        progress,
    )


def digest(files: Mapping[str, bytes]) -> str:
    """Return the checksum of files by their paths: SHA-256 over the sorted paths and contents."""
    return sha256(repr([(name, sha256(files[name])) for name in sorted(files)]))


def check(files: Mapping[str, bytes], pin: Pin, release: str) -> None:
    """Compare the files of a release with its pin; BuildError if they are others."""
    if digest(files) != pin.digest:
        raise BuildError(
            f"linux-source-{pin.series} {release} has another libbpf than the pinned {VERSION}",
            "Update bpfmatrix, or install its wheel, which has the loader built.",
        )


def _fetch(made: Path, cache: Cache, progress: Progress) -> None:
    problems: list[KernelUnavailableError] = []
    for pin in PINNED:
        try:
            origin = _locate(pin, cache, progress)
        except UnreachableError:
            raise
        except KernelUnavailableError as error:
            problems.append(error)
            continue
        with cache.staging() as staging:
            tarball = staging / "linux.tar.xz"
            origin.fetch_tarball(tarball, cache, progress)
            progress(f"taking libbpf out of {origin.deb.name} {origin.deb.version}")
            files = _take(tarball)
        check(files, pin, origin.deb.version)
        _write(made, files)
        return
    names = " or ".join(f"linux-source-{pin.series}" for pin in PINNED)
    raise KernelUnavailableError(
        f"Debian no longer has {names}, from which libbpf {VERSION} is taken: {problems[0].what}",
        "Update bpfmatrix, or install its wheel, which has the loader built.",
    )


def _locate(pin: Pin, cache: Cache, progress: Progress) -> "Debian":
    """Return the package of a pin: from its suite, or from another one."""
    from bpfmatrix.config.sources import BuildSource  # noqa: PLC0415 - off the start-up path
    from bpfmatrix.kernels.build.source_trees import Debian, locate  # noqa: PLC0415

    wanted = {"from": "apt", "version": pin.series}
    root = cache.root  # of no meaning to packages of Debian
    try:
        source = BuildSource.model_validate({**wanted, "suite": pin.suite})
        found = locate(source, DEFAULT.name, root, cache, progress)
    except UnreachableError:
        raise
    except KernelUnavailableError:
        found = locate(BuildSource.model_validate(wanted), DEFAULT.name, root, cache, progress)
    assert isinstance(found, Debian)
    return found


def _take(tarball: Path) -> dict[str, bytes]:
    """Return libbpf's files of a kernel's sources, by their paths in the source tree."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(tarball, "r|xz") as tar:
            for entry in tar:
                name = entry.name.removeprefix("./").partition("/")[2]
                if _is_wanted(name) and (file := tar.extractfile(entry)):
                    files[name] = file.read()
    except (OSError, lzma.LZMAError, tarfile.TarError) as error:
        raise BpfmatrixError(
            f"libbpf can't be taken out of the kernel's sources: {error}",
            "What was fetched may be damaged; try again.",
        ) from error
    return files


def _is_wanted(name: str) -> bool:
    folder, _, file = name.rpartition("/")
    return name in _HEADERS or (folder == _FOLDER and file.endswith((".c", ".h")))


def _write(made: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(made, "w") as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))

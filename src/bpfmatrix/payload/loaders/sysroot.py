"""The C library and the other libraries that a loader in C is linked with, from Debian's packages.

They come from the suite that the host's apt has, for each architecture in the same way, whether it
is the host's or not. `obtain` gives a tar file of what a compiler reads: headers, static libraries
and start files, at the places where clang's `--sysroot` looks for them.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import derived
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.process import reason_of_end, run_merged
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.sources import apt_sources

if TYPE_CHECKING:
    from bpfmatrix.kernels.sources.apt_packages import Deb

__all__ = ["PACKAGES", "obtain"]

# Patterns of names. libgcc's has the version of the suite's gcc in it; the newest counts.
PACKAGES = (
    *("libc6-dev", "linux-libc-dev", r"libgcc-\d+-dev"),
    # libbpf reads ELF files with libelf, which needs zlib, and from 0.189 on (Debian 13) zstd.
    *("libelf-dev", "zlib1g-dev", "libzstd-dev"),
    "libjansson-dev",  # the protocol's JSON
    "systemtap-sdt-dev",  # sys/sdt.h, for the probe that USDT programs are attached to
)
_LAYOUT = 1
"""To be raised if `_keep` changes, so that another tar file is made."""


def obtain(arch: str, cache: Cache, progress: Progress) -> Path:
    """Return a tar file with the libraries of an architecture, which is made if there is none.

    UnreachableError without a network; KernelUnavailableError if the suite lacks a package.
    """
    suite = apt_sources.host_suite()
    key = sha256(repr((_LAYOUT, PACKAGES)))[:16]
    target = cache.root / "loader-sources" / f"libraries-{suite}-{arch}-{key}.tar"
    return derived.obtain(
        cache,
        target,
        f"the libraries for {arch}",
        lambda made: _fetch(suite, arch, made, cache, progress),
        progress,
    )


def newest(debs: Sequence["Deb"], pattern: str) -> "Deb | None":
    """Return the newest package whose name matches a pattern: by the numbers in it, its version."""
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    def order(deb: "Deb") -> tuple[list[int], Version]:
        return [int(number) for number in re.findall(r"\d+", deb.name)], Version(deb.version)

    found = (deb for deb in debs if re.fullmatch(pattern, deb.name))
    return max(found, key=order, default=None)


def _fetch(suite: str, arch: str, made: Path, cache: Cache, progress: Progress) -> None:
    from bpfmatrix.kernels.sources.apt_archive import Archive  # noqa: PLC0415 - off the start-up path

    archive = Archive.of_host(cache, suite, arch)
    with archive.locked(), cache.staging() as staging:
        archive.update(progress)
        there = archive.debs(re.compile(rf"Package: ({'|'.join(PACKAGES)})\n"))
        chosen = [newest(there, pattern) for pattern in PACKAGES]
        if missing := [name for name, deb in zip(PACKAGES, chosen, strict=True) if deb is None]:
            raise KernelUnavailableError(f"{suite} has no {missing[0]} for {arch}")
        packages, root = staging / "packages", staging / "root"
        packages.mkdir()
        for deb in archive.download([deb for deb in chosen if deb], packages, progress):
            _run(["dpkg-deb", "-x", deb, root])
        kept = sorted(_keep(root))
        names = staging / "names"
        names.write_bytes(b"\0".join(bytes(path.relative_to(root)) for path in kept))
        _run(
            [
                *("tar", "--create", "--file", made, "--directory", root, "--no-recursion"),
                *("--null", "--verbatim-files-from", "--files-from", names),
            ]
        )


def _keep(root: Path) -> Iterator[Path]:
    """Give the files of unpacked packages that a compiler or a linker reads."""
    for path in root.rglob("*"):
        inside = path.relative_to(root)
        if path.is_dir() and not path.is_symlink():
            continue
        folders = inside.parts
        library = "lib" in folders[:2] and path.suffix in (".a", ".o", ".h")
        # Debian 13 has headers of several architectures here, to which links lead.
        headers = folders[:2] == ("usr", "include") or folders[:4] == (
            "usr",
            "lib",
            "linux",
            "uapi",
        )
        if library or headers:
            yield path


def _run(command: Sequence[str | Path]) -> None:
    done = run_merged(command)
    if done.returncode != 0:
        raise BpfmatrixError(
            f"{command[0]} failed: {reason_of_end(done.returncode, done.stdout)}",
            "Is there space left in the cache? Try again.",
        )

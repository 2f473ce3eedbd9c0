"""The C library and the other libraries that a loader in C is linked with, from Debian's packages.

They come from one suite on every host, from the mirror that kernels come from, and for each
architecture in the same way, whether it is the host's or not. `obtain` gives a tar file of what a
compiler reads: headers, static libraries and start files, where clang's `--sysroot` looks for them.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import derived
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.process import reason_of_end, run_merged
from bpfmatrix.host.progress import Progress

__all__ = ["ARCHITECTURES", "KEY", "PACKAGES", "SUITE", "obtain"]

SUITE = "bookworm"
"""Where the packages come from. Nothing can be linked with the libelf.a of trixie: it lacks the
functions `eu_search_tree_*`, which it calls."""
ARCHITECTURES = ("x86_64", "aarch64", "s390x", "ppc64le")
"""Those of our architectures that the suite has; riscv64 is one of Debian's from trixie on."""
PACKAGES = (
    *("libc6-dev", "linux-libc-dev", "libgcc-12-dev"),
    *("libelf-dev", "zlib1g-dev"),  # libbpf reads ELF files with libelf, which needs zlib
    "libjansson-dev",  # the protocol's JSON
    "systemtap-sdt-dev",  # sys/sdt.h, for the probe that USDT programs are attached to
)
_LAYOUT = 1
"""To be raised if `_keep` changes, so that another tar file is made."""
# To be raised if other notices are kept. What is built does not depend on them, so KEY has no part
# of it.
_NOTICES = 2
# The texts of licences, which the notices of the other packages only name.
_TEXTS = "base-files"
KEY = sha256(repr((_LAYOUT, SUITE, PACKAGES)))
"""The checksum of what decides which files `obtain` gives."""


def obtain(arch: str, cache: Cache, progress: Progress) -> Path:
    """Return a tar file with the libraries of an architecture, which is made if there is none.

    UnreachableError without a network; KernelUnavailableError if the suite lacks a package.
    """
    target = cache.root / "loader-sources" / f"libraries-{arch}-{KEY[:16]}-{_NOTICES}.tar"
    return derived.obtain(
        cache,
        target,
        f"the libraries for {arch}",
        lambda made: _fetch(arch, made, cache, progress),
        progress,
    )


def _fetch(arch: str, made: Path, cache: Cache, progress: Progress) -> None:
    from debian.debian_support import Version  # noqa: PLC0415 - off the start-up path

    from bpfmatrix.kernels.formats import deb  # noqa: PLC0415
    from bpfmatrix.kernels.sources.apt_archive import Archive  # noqa: PLC0415

    archive = Archive.of_host(cache, SUITE, arch)
    with archive.locked(), cache.staging() as staging:
        archive.update(progress)
        wanted = (*PACKAGES, _TEXTS)
        found = archive.debs(re.compile(rf"Package: ({'|'.join(wanted)})\n"))
        # Of several versions, the newest stays.
        newest = {deb.name: deb for deb in sorted(found, key=lambda deb: Version(deb.version))}
        if missing := [name for name in wanted if name not in newest]:
            raise KernelUnavailableError(f"{SUITE} has no {missing[0]} for {arch}")
        packages, root = staging / "packages", staging / "root"
        packages.mkdir()
        for file in archive.download(list(newest.values()), packages, progress):
            deb.extract(file, root)
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
    """Give the files of unpacked packages that a compiler or a linker reads, and the notices."""
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
        notices = path.name == "copyright" or folders[:3] == ("usr", "share", "common-licenses")
        if library or headers or notices:
            yield path


def _run(command: Sequence[str | Path]) -> None:
    done = run_merged(command)
    if done.returncode != 0:
        raise BpfmatrixError(
            f"{command[0]} failed: {reason_of_end(done.returncode, done.stdout)}",
            "Is there space left in the cache? Try again.",
        )

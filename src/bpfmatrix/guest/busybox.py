"""busybox, which provides the guest's commands.

`executable` gives the host's own busybox, or the one of Debian's package for another architecture.
`applets` reads the names of its commands from the file, since the host can't run `busybox --list`
for another architecture.
"""

import functools
import io
import os
import re
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import derived, tools
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.progress import Progress, silent

__all__ = ["applets", "executable"]

PACKAGE = "busybox-static"
# busybox has the names of its commands as one sorted block of strings (applet_names in
# libbb/appletlib.c). It begins with these two commands, and an empty string ends it. Another table,
# which may end with any byte, stands before it.
_FIRST_APPLETS = b"[\0[[\0"


def executable(arch: str, cache: Cache, progress: Progress = silent) -> Path:
    """Return a static busybox for an architecture; if not the host's, it is Debian's.

    ToolMissingError if the host has no busybox, KernelUnavailableError if Debian's suite has no
    package of it for the other architecture. A fetched one that is damaged is fetched again.
    """
    if arch == os.uname().machine:
        # Alpine has the static one under this name, beside its own.
        return tools.find("busybox.static") or tools.require("busybox", PACKAGE)
    path = cache.root / "busybox" / arch / "busybox"
    fetch = functools.partial(_fetch, arch, cache, progress)
    return derived.obtain(cache, path, f"busybox for {arch}", fetch, progress)


def _fetch(arch: str, cache: Cache, progress: Progress, path: Path) -> None:
    from bpfmatrix.kernels.formats import deb  # noqa: PLC0415 - off the start-up path
    from bpfmatrix.kernels.sources.apt_archive import Archive  # noqa: PLC0415

    for suite in dict.fromkeys((_suite(), _NEWEST_SUITE)):
        archive = Archive.of_host(cache, suite, arch)
        with archive.locked(), cache.staging() as staging:
            archive.update(progress)
            found = archive.debs(re.compile(rf"Package: {PACKAGE}\n"))
            if not found:
                continue
            (file,) = archive.download(found[-1:], staging, progress)
            # Newer packages have it in usr/bin.
            if not deb.extract_file(file, lambda name: name.endswith("bin/busybox"), path):
                raise KernelUnavailableError(f"{file.name} has no busybox")
            path.chmod(0o755)
            return
    raise KernelUnavailableError(f"{_NEWEST_SUITE} has no {PACKAGE} for {arch}")


# Older suites do not have all architectures: riscv64 came with trixie.
_NEWEST_SUITE = "stable"


def _suite() -> str:
    """Return the host's suite, which its apt sources have, if it runs Debian; else `stable`."""
    known: dict[str, str] = {}
    with Path("/etc/os-release").open() as file:
        for line in file:
            key, _, value = line.strip().partition("=")
            known[key] = value.strip('"')
    is_debian = known.get("ID") == "debian"
    return known.get("VERSION_CODENAME", _NEWEST_SUITE) if is_debian else _NEWEST_SUITE


@functools.cache
def applets(busybox: Path) -> tuple[str, ...]:
    """Return the names of its commands; BpfmatrixError if the guest could not run it."""
    content = busybox.read_bytes()
    if _is_dynamic(content):
        raise BpfmatrixError(
            f"{busybox} is dynamically linked, and the guest has no libraries",
            f"Install {PACKAGE} in place of busybox, or run ./bootstrap.",
        )
    start = content.find(_FIRST_APPLETS)
    names = content[start : content.index(b"\0\0", start)].decode() if start >= 0 else ""
    if not names:
        raise BpfmatrixError(f"{busybox} has no commands", f"Install {PACKAGE} again.")
    return tuple(name for name in names.split("\0") if name != "busybox")


def _is_dynamic(elf: bytes) -> bool:
    from elftools.common.exceptions import ELFError  # noqa: PLC0415 - slow to import
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415

    try:
        segments = ELFFile(io.BytesIO(elf)).iter_segments()
        return any(segment["p_type"] == "PT_INTERP" for segment in segments)
    except ELFError:
        return False

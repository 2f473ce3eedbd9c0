"""A root file system with perf, bpftrace and bpftool, from packages of Debian: `shell --tools`.

A kernel of Debian has the tools of its own release of Debian, and so those of its own series. Any
other kernel has those of `DEFAULT_RELEASE`. The packages are unpacked, and none of their scripts
runs.
"""

import io
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.host import derived
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels.formats import deb
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.sources.apt_archive import Archive
from bpfmatrix.kernels.sources.apt_closure import Catalogue, Found
from bpfmatrix.kernels.store import require_space
from bpfmatrix.oci.layers import merge
from bpfmatrix.rootfs.images import RootImage
from bpfmatrix.rootfs.tree import write_ext4

__all__ = ["DEFAULT_RELEASE", "TOOLS", "obtain", "suites_of"]

TOOLS = ("perf", "bpftrace", "bpftool")
DEFAULT_RELEASE = "trixie"
"""The release of Debian that has the tools for kernels that are not Debian's."""

# The packages that are made from the kernel's source, and have its version.
_OF_THE_KERNEL = ("linux-perf", "bpftool")
_PACKAGES = (
    *(*_OF_THE_KERNEL, "bpftrace"),
    # A shell, and the programs that people use in one.
    *("base-files", "bash", "coreutils", "findutils", "grep", "less", "mawk", "mount"),
    *("ncurses-base", "procps", "sed", "util-linux"),
)
# To be increased when the root is made in another way.
_FORMAT = 1
_LIMIT_BYTES = 8 << 30
# A package's files are on the disk as an archive, once unpacked, and once in the ext4 image.
_COPIES = 3
# Links of the root into /usr. Packages from trixie on have all their files below /usr. In older
# packages these are folders, which replace the links.
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "root/.bashrc": "PS1='\\h:\\w\\$ '\n",
}
_LINKS = {"bin/sh": "bash", "usr/bin/awk": "mawk", "usr/bin/pager": "less"}


def suites_of(kernel: KernelConfig) -> tuple[str, ...]:
    """Return the suites of Debian that have the tools for a kernel, the preferred one first."""
    source = kernel.source.apt
    suite = DEFAULT_RELEASE if source is None or source.mirror else source.suite
    release = suite.split("-")[0].split("/")[0]
    suites = [f"{release}-security", release]
    return tuple(suites if suite in suites else [*suites, suite])


def obtain(
    kernel: KernelConfig,
    image: KernelImage,
    cache: Cache,
    progress: Progress = silent,
    *,
    reread: bool = False,
) -> RootImage:
    """Return the root file system with the tools for a kernel, from the cache or made.

    It is made again for each new version of the kernel. KernelUnavailableError if an archive does
    not have the packages, UnreachableError if it does not answer.
    """
    suites = suites_of(kernel)
    key = key_of([_FORMAT, suites, kernel.arch, image.version, _PACKAGES])
    target = cache.root / "rootfs" / f"tools-{key[:32]}.ext4"
    name = f"the disk of {', '.join(TOOLS)}"
    make = partial(_make, suites, kernel.arch, cache, progress)
    derived.obtain(cache, target, name, make, progress, reread=reread, holes=True)
    return RootImage(target, key, f"{', '.join(TOOLS)} of {suites[-1]}")


def _make(suites: Sequence[str], arch: str, cache: Cache, progress: Progress, made: Path) -> None:
    catalogue = Catalogue(
        (archive, _index(archive, progress)) for archive in _archives(suites, arch, cache)
    )
    packages = catalogue.closure(_PACKAGES, newest=_OF_THE_KERNEL)
    to_fetch = sum(package.deb.size_bytes for package in packages)
    unpacked = sum(package.deb.installed_bytes for package in packages)
    announce(
        progress,
        f"{', '.join(TOOLS)}: {to_fetch / 1e6:.0f} MB to fetch once ({len(packages)} packages)",
    )
    require_space(cache.root, to_fetch + _COPIES * unpacked)
    with cache.staging() as staging:
        for folder in ("packages", "files", "disk"):
            (staging / folder).mkdir()
        layers = [_below(staging / "below.tar")]
        for number, file in enumerate(_downloaded(packages, staging / "packages", progress)):
            progress(f"{file.name}: unpacking")
            layer = staging / f"{number}.tar"
            deb.write_data(file, layer)
            layers.append(layer)
            file.unlink()
        layers.append(_above(staging / "above.tar"))
        root = merge(layers, staging / "files", lambda _path: True, _LIMIT_BYTES)
        progress("making the disk of the tools")
        write_ext4(root, staging / "disk", made, "the disk of the tools")


def _archives(suites: Sequence[str], arch: str, cache: Cache) -> list[Archive]:
    return [Archive.of_host(cache, suite, arch) for suite in suites]


def _index(archive: Archive, progress: Progress) -> str:
    with archive.locked():
        archive.update(progress)
        return archive.index()


def _downloaded(packages: Sequence[Found], folder: Path, progress: Progress) -> list[Path]:
    files = []
    archives = {package.archive.suite: package.archive for package in packages}
    for suite, archive in archives.items():
        (place := folder / suite.replace("/", "_")).mkdir()
        wanted = [package.deb for package in packages if package.archive.suite == suite]
        with archive.locked():
            files += archive.download(wanted, place, progress)
    return files


def _below(path: Path) -> Path:
    """Write the layer below all packages: links of the root into /usr."""
    entries = [_entry(f"usr/{name}", tarfile.DIRTYPE) for name in _MERGED]
    entries += [_entry(name, tarfile.SYMTYPE, f"usr/{name}") for name in _MERGED]
    return _written(path, [(entry, b"") for entry in entries])


def _above(path: Path) -> Path:
    """Write the layer above all packages: what their scripts would make."""
    links = [(_entry(name, tarfile.SYMTYPE, target), b"") for name, target in _LINKS.items()]
    files = [(_entry(name, tarfile.REGTYPE), text.encode()) for name, text in _FILES.items()]
    return _written(path, [*links, *files])


def _entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return entry


def _written(path: Path, entries: Sequence[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as layer:
        for entry, content in entries:
            entry.size = len(content)
            layer.addfile(entry, io.BytesIO(content))
    return path

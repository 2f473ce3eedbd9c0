"""A root file system with perf, bpftrace and bpftool, from packages of Debian: `shell --tools`.

A kernel of Debian has the tools of its own release of Debian, and so those of its own series. Any
other kernel has those of the release whose kernel is the next one that is not older. The packages
are unpacked, and none of their scripts runs.
"""

import io
import tarfile
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import NotInArchiveError, UnreachableError
from bpfmatrix.host import derived, versions
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import key_of
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels.formats import deb
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.sources.apt_archive import Archive
from bpfmatrix.kernels.sources.apt_closure import Catalogue, Found
from bpfmatrix.kernels.sources.apt_packages import Deb
from bpfmatrix.kernels.store import require_space
from bpfmatrix.oci.layers import Attributes, ImageFolder, ImageLink, merge
from bpfmatrix.rootfs.images import RootImage
from bpfmatrix.rootfs.tree import write_ext4

__all__ = ["TOOLS", "obtain", "suites_of"]

TOOLS = ("perf", "bpftrace", "bpftool")
# The releases of Debian for kernels that are not Debian's, by the series of their own kernels:
# newer tools may need what an older kernel lacks. bpftrace 0.23 of trixie has no BEGIN on 5.4.
_RELEASES = {(5, 10): "bullseye", (6, 1): "bookworm"}
_NEWEST_RELEASE = "trixie"
# The first release that has them, for architectures that the older ones do not have.
_FIRST_RELEASE = {"riscv64": "trixie"}

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


def suites_of(kernel: KernelConfig, version: str) -> tuple[str, ...]:
    """Return the suites of Debian that have the tools for a kernel, the preferred one first.

    `version` is the kernel's, such as `6.1.192`.
    """
    source = kernel.source.apt
    suite = source.suite if source and not source.mirror else _release_for(kernel.arch, version)
    release = suite.split("-")[0].split("/")[0]
    suites = [f"{release}-security", release]
    return tuple(suites if suite in suites else [*suites, suite])


def _release_for(arch: str, version: str) -> str:
    series = versions.numbers(version)[:2]
    fitting = (release for newest, release in _RELEASES.items() if series <= newest)
    return _FIRST_RELEASE.get(arch) or next(fitting, _NEWEST_RELEASE)


def obtain(
    kernel: KernelConfig,
    image: KernelImage,
    cache: Cache,
    progress: Progress = silent,
    *,
    reread: bool = False,
) -> RootImage:
    """Return the root file system with the tools for a kernel, from the cache or made.

    It is made again for each new version of a kernel of Debian. KernelUnavailableError if an
    archive does not have the packages, UnreachableError if it does not answer.
    """
    suites = suites_of(kernel, image.version)
    is_debian = kernel.source.apt is not None and kernel.source.apt.mirror is None
    version = image.version if is_debian else ""
    key = key_of([_FORMAT, suites, kernel.arch, version, _PACKAGES])
    target = cache.root / "rootfs" / f"tools-{key[:32]}.ext4"
    name = f"the disk of {', '.join(TOOLS)}"
    make = partial(_make, suites, kernel.arch, cache, progress)
    derived.obtain(cache, target, name, make, progress, reread=reread, holes=True)
    return RootImage(target, key, f"{', '.join(TOOLS)} of {suites[-1]}")


def _make(suites: Sequence[str], arch: str, cache: Cache, progress: Progress, made: Path) -> None:
    archives = [Archive.of_host(cache, suite, arch) for suite in suites]
    try:
        catalogue = Catalogue([(archive, _index(archive, progress)) for archive in archives])
    except UnreachableError as error:
        raise UnreachableError(
            f"{', '.join(TOOLS)} are not in the cache, and {error.what}",
            f"Try again with a network, or without --tools. {error.advice}".strip(),
        ) from error
    with cache.staging() as staging:
        for folder in ("packages", "files", "disk"):
            (staging / folder).mkdir()
        layers = [_below(staging / "below.tar")]
        for number, file in enumerate(_fetched(catalogue, cache, staging / "packages", progress)):
            progress(f"{file.name}: unpacking")
            layer = staging / f"{number}.tar"
            deb.write_data(file, layer)
            layers.append(layer)
            file.unlink()
        layers.append(_above(staging / "above.tar"))
        root = merge(layers, staging / "files", lambda _path: True, _LIMIT_BYTES)
        _name_perf(root)
        progress("making the disk of the tools")
        write_ext4(root, staging / "disk", made, "the disk of the tools")


def _name_perf(root: ImageFolder) -> None:
    """Give perf its usual name: up to bullseye it is perf_5.10, beside a script in linux-base."""
    folder = root.resolve("usr/bin")
    if isinstance(folder, ImageFolder) and "perf" not in folder.names:
        own = sorted(name for name in folder.names if name.startswith("perf_"))
        if own:
            folder.names["perf"] = ImageLink(own[-1], Attributes(0o777))


def _index(archive: Archive, progress: Progress) -> str:
    with archive.locked():
        archive.update(progress)
        return archive.index()


def _fetched(catalogue: Catalogue, cache: Cache, folder: Path, progress: Progress) -> list[Path]:
    """Download the packages; in place of one that an archive lists and lacks, another version."""
    there: dict[Deb, Path] = {}
    missing: list[Found] = []
    while True:
        packages = catalogue.closure(_PACKAGES, newest=_OF_THE_KERNEL, without=missing)
        wanted = [package for package in packages if package.deb not in there]
        to_fetch = sum(package.deb.size_bytes for package in wanted)
        unpacked = sum(package.deb.installed_bytes for package in packages)
        text = f"{to_fetch / 1e6:.0f} MB to fetch once ({len(wanted)} packages)"
        announce(progress, f"{', '.join(TOOLS)}: {text}")
        require_space(cache.root, to_fetch + _COPIES * unpacked)
        lacking = []
        for archive in dict.fromkeys(package.archive for package in wanted):
            own = [package for package in wanted if package.archive == archive]
            with archive.locked():
                lacking += _download(archive, own, folder, there, progress)
        if not lacking:
            return [there[package.deb] for package in packages]
        missing += lacking
        names = ", ".join(f"{each.deb.name} {each.deb.version}" for each in lacking)
        announce(progress, f"the archive lists {names}, and lacks them: looking for others")


def _download(
    archive: Archive,
    packages: Sequence[Found],
    folder: Path,
    there: dict[Deb, Path],
    progress: Progress,
) -> list[Found]:
    """Download packages of one archive, and return those that it lacks."""
    debs = [package.deb for package in packages]
    try:
        files = archive.download(debs, Path(tempfile.mkdtemp(dir=folder)), progress)
    except NotInArchiveError:
        if len(packages) == 1:
            return [*packages]
        # Which one it lacks is not told, and apt takes a second for each call.
        half = len(packages) // 2
        parts = (packages[:half], packages[half:])
        return [m for part in parts for m in _download(archive, part, folder, there, progress)]
    there.update(zip(debs, files, strict=True))
    return []


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

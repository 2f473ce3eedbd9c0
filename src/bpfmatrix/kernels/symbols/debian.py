"""The vmlinux and the sources of Debian's kernels, as the archive's packages have them.

The package `linux-image-RELEASE-dbg` has the vmlinux. Of `linux-source-SERIES`, the parts are kept
in which a debugger of eBPF may stop. Both must have the version of the kernel's own package.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.host import versions
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress
from bpfmatrix.kernels.formats import deb
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.sources.apt_archive import Archive
from bpfmatrix.kernels.sources.apt_packages import Deb
from bpfmatrix.kernels.store import require_space

__all__ = ["fetch"]

# What is left out of linux-source: two thirds of it, where a debugger of eBPF does not stop.
_LEFT_OUT = (
    *("*/Documentation/*", "*/sound/*", "*/tools/*", "*/samples/*", "*/LICENSES/*"),
    *("*/drivers/gpu/*", "*/drivers/media/*", "*/drivers/staging/*", "*/drivers/infiniband/*"),
    *("*/drivers/net/ethernet/*", "*/drivers/net/wireless/*", "*/drivers/scsi/*"),
    *("*/drivers/accel/*", "*/drivers/usb/*", "*/drivers/iio/*", "*/drivers/input/*"),
    *("*/arch/*/boot/dts/*", "*/drivers/clk/*", "*/drivers/pinctrl/*", "*/drivers/hwmon/*"),
)
_TREE_BYTES = 700 << 20
_STANZAS = re.compile(r"Package: linux-(?:image-[^\n]*-dbg|source-[^\n]*)\n")


@dataclass(frozen=True)
class _Packages:
    """The packages that belong to one kernel."""

    symbols: Deb
    sources: Deb | None

    @property
    def debs(self) -> list[Deb]:
        return [self.symbols, *([self.sources] if self.sources else [])]

    @property
    def size_bytes(self) -> int:
        return sum(deb.size_bytes for deb in self.debs)


def fetch(
    kernel: KernelConfig,
    image: KernelImage,
    package_version: str,
    folder: Path,
    cache: Cache,
    progress: Progress,
    announce: Callable[[str], None],
) -> None:
    """Put `vmlinux`, and `source` if the archive has it, into the empty `folder` of the cache.

    `package_version` is that of the kernel's package; `announce` is told how much will be fetched.
    KernelUnavailableError if the archive no longer has that version.
    """
    assert kernel.source.apt is not None
    archive = Archive.of(cache, kernel, kernel.source.apt)
    with archive.locked(), cache.staging() as staging:
        archive.update(progress)
        packages = _find(kernel, image, package_version, archive)
        names = " and ".join(deb.name for deb in packages.debs)
        announce(f"{image.release}: {packages.size_bytes / 1e6:.0f} MB to fetch once ({names})")
        require_space(
            cache.root, packages.size_bytes + packages.symbols.installed_bytes + _TREE_BYTES
        )
        for package in packages.debs:
            (place := staging / package.name).mkdir()
            (file,) = archive.download([package], place, progress)
            progress(f"{package.name}: unpacking")
            if package is packages.symbols:
                _take_vmlinux(file, folder / "vmlinux")
            else:
                _take_tree(file, folder / "source", image.arch)
            shutil.rmtree(place)


def _find(
    kernel: KernelConfig, image: KernelImage, package_version: str, archive: Archive
) -> _Packages:
    debs = {(deb.name, deb.version): deb for deb in archive.debs(_STANZAS)}
    wanted = f"linux-image-{image.release}-dbg"
    symbols = debs.get((wanted, package_version))
    if symbols is None:
        update = command(f"kernels.update --kernel {kernel.id}")
        raise KernelUnavailableError(
            f"{archive.suite} no longer has {wanted} {package_version}, which has the symbols of "
            f"{image.description}",
            f"`{update}` gets the release that it has now; or name a vmlinux with --vmlinux.",
        )
    name = f"linux-source-{versions.series(image.version)}"
    return _Packages(symbols, debs.get((name, package_version)))


def _take_vmlinux(file: Path, target: Path) -> None:
    """Take the vmlinux out of a -dbg package, and nothing else of it.

    It is /usr/lib/debug/boot/vmlinux-RELEASE, to which others of that name are links; newer
    packages have it below /usr/lib/debug/usr/lib/modules.
    """
    if not deb.extract_file(file, lambda name: "/vmlinux" in name, target):
        raise KernelUnavailableError(f"{file.name} has no vmlinux")


def _take_tree(file: Path, target: Path, arch: str) -> None:
    """Unpack the source tree in a package linux-source-SERIES, without what is of no use here."""
    target.mkdir()
    inner = file.parent / "tree.tar"
    if not deb.extract_file(file, lambda name: name.startswith("usr/src/linux-source-"), inner):
        raise KernelUnavailableError(f"{file.name} has no sources")
    left_out = [f"--exclude={name}" for name in (*_LEFT_OUT, *_other_architectures(arch))]
    _tar(["-f", inner, "-C", target, "--strip-components=1", "--wildcards", *left_out])


def _other_architectures(arch: str) -> list[str]:
    """Return the patterns of the folders in arch/ that belong to other architectures."""
    # By name, as tar has no pattern for "all but one".
    own = ARCHITECTURES[arch].kernel_folder
    folders = (
        *("alpha", "arc", "arm", "arm64", "csky", "hexagon", "ia64", "loongarch", "m68k"),
        *("microblaze", "mips", "nios2", "openrisc", "parisc", "powerpc", "riscv", "s390"),
        *("sh", "sparc", "um", "x86", "xtensa"),
    )
    return [f"*/arch/{name}/*" for name in folders if name != own]


def _tar(arguments: list[str | Path]) -> None:
    done = subprocess.run(
        ["tar", "--extract", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        raise BpfmatrixError(
            f"the symbols can't be unpacked: {said[0] if said else 'tar gave no reason'}",
            "Free some space." if "No space left" in "".join(said) else "Try again.",
        )

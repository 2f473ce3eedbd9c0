"""Which vmlinux and which source tree belong to a kernel.

A kernel of `kernels.build` has both where it was built. For one of Debian's packages they come from
the archive: of its `-dbg` package the vmlinux is kept, of `linux-source` what a debugger may come
upon. Both stay in the cache. For any other kernel they are named by hand.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError, UsageError
from bpfmatrix.host.cache import Cache, Pruned
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage, Package
from bpfmatrix.kernels.symbols import elf

__all__ = ["Symbols", "at_hand", "fetchable", "get", "names_file", "prune"]

# What is left out of linux-source: two thirds of it, where nobody who debugs eBPF comes to stand.
_LEFT_OUT = (
    *("*/Documentation/*", "*/sound/*", "*/tools/*", "*/samples/*", "*/LICENSES/*"),
    *("*/drivers/gpu/*", "*/drivers/media/*", "*/drivers/staging/*", "*/drivers/infiniband/*"),
    *("*/drivers/net/ethernet/*", "*/drivers/net/wireless/*", "*/drivers/scsi/*"),
    *("*/drivers/accel/*", "*/drivers/usb/*", "*/drivers/iio/*", "*/drivers/input/*"),
    *("*/arch/*/boot/dts/*", "*/drivers/clk/*", "*/drivers/pinctrl/*", "*/drivers/hwmon/*"),
)
_ARCH_FOLDER = {"x86_64": "x86", "aarch64": "arm64"}
_TREE_BYTES = 700 << 20
_BUILT_IN = "built-in"


@dataclass(frozen=True)
class Symbols:
    """What a debugger is given for one kernel."""

    vmlinux: Path
    source: Path | None
    """The source tree, or None where there is none."""
    moved_from: str = ""
    """Where the source tree was when the kernel was built, if it is somewhere else now."""
    scripts: Path | None = None
    """The kernel's own scripts for gdb (`vmlinux-gdb.py`), where it was built with them."""
    origin: str = ""
    """Where they are from, for people."""
    has_types: bool = True
    """Whether there is DWARF, and not just names."""


def get(
    project_root: Path,
    kernel: KernelConfig,
    image: KernelImage,
    cache: Cache,
    vmlinux: Path | None = None,
    source: Path | None = None,
    progress: Progress = silent,
    announce: Callable[[str], None] = lambda text: None,
) -> Symbols:
    """Return what belongs to a kernel, fetched where it is not at hand.

    `vmlinux` and `source` are what the user names; `announce` is told, before anything is
    fetched, how much that is. UsageError for a vmlinux of another build, and
    KernelUnavailableError where there is none to be had.
    """
    if source is not None and not (source / "kernel/bpf").is_dir():
        raise UsageError(
            f"--source {source}: there is no kernel/bpf in it", "Name the top of a source tree."
        )
    if vmlinux is not None:
        _require_same_build(vmlinux, image)
        found = Symbols(vmlinux.absolute(), None, origin=f"--vmlinux {vmlinux}")
        if known := at_hand(project_root, image, cache):
            found = replace(found, source=known.source, moved_from=known.moved_from)
    else:
        found = at_hand(project_root, image, cache) or _fetched(
            kernel, image, cache, progress, announce
        )
    if source is not None:
        found = replace(found, source=source.absolute(), moved_from=_built_in(found.vmlinux))
    return found


def at_hand(project_root: Path, image: KernelImage, cache: Cache) -> Symbols | None:
    """Return what belongs to a kernel if nothing must be fetched for it, else None."""
    if built := _of_build(project_root, image):
        return built
    folder = _folder(cache, image)
    if folder and (folder / "vmlinux").exists():
        with contextlib.suppress(OSError):
            os.utime(folder)  # still in use: see prune
        tree = folder / "source"
        said = " ".join(folder.name.split("_")[:2])
        moved = (folder / _BUILT_IN).read_text() if (folder / _BUILT_IN).exists() else ""
        return Symbols(folder / "vmlinux", tree if tree.is_dir() else None, moved, origin=said)
    # A kernel that is booted as the vmlinux of its build.
    if elf.has_lines(image.boot):
        return Symbols(image.boot, None, origin="the kernel's own file")
    return None


def fetchable(kernel: KernelConfig, image: KernelImage) -> bool:
    """Whether it is known where the symbols of a kernel can be fetched from."""
    return kernel.source.apt is not None and _package(image) is not None


def names_file(cache: Cache, image: KernelImage) -> Path:
    """Return where an ELF file with no more than the functions' names is kept."""
    return cache.root / "symbols" / f"names_{image.digest.removeprefix('sha256:')[:32]}" / "vmlinux"


def _of_build(root: Path, image: KernelImage) -> Symbols | None:
    """Return those of a kernel that was built: found by its digest, or by where its file lay."""
    for folder in _built_folders(root, image):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads((folder / "build.json").read_bytes())
            if f"sha256:{about['sha256']['vmlinuz']}" != image.digest:
                continue
            tree, objects = Path(about["tree"]), Path(about["objects"])
            here = folder.parent / "_build" / tree.name
            # Both may have been moved along with the project.
            moved = "" if tree.is_dir() or not here.is_dir() else str(tree)
            source = here if moved else tree
            if not objects.is_dir():
                objects = folder.parent / "_build" / objects.name
            # Without --debug, the lines are only in what make left.
            for vmlinux in (folder / "vmlinux", objects / "vmlinux"):
                if elf.has_lines(vmlinux) and elf.holds_build_id(image.boot, elf.build_id(vmlinux)):
                    scripts = objects / "vmlinux-gdb.py"
                    return Symbols(
                        vmlinux,
                        source if source.is_dir() else None,
                        moved,
                        scripts if scripts.exists() else None,
                        f"built from {about['source']}",
                    )
    return None


def _built_folders(root: Path, image: KernelImage) -> list[Path]:
    """Return where a kernel that was built may lie: ci-kernels/, or beside the file it is from."""
    named = [Path(package.name).parent for package in image.provenance.packages]
    beside = [root / folder for folder in named if folder != Path()]
    return [*beside, *(path.parent for path in sorted(root.glob("ci-kernels/*/build.json")))]


def _built_in(vmlinux: Path) -> str:
    """Return where the sources were when a vmlinux was built, as DWARF has it; "" if it does not.

    Paths that are relative need no such thing. Debian's kernels have both: those of C files are
    relative, those of assembly are not.
    """
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - slow to import

    with vmlinux.open("rb") as file:
        unit = next(
            iter(ELFFile(file).get_dwarf_info(relocate_dwarf_sections=False).iter_CUs()), None
        )
        if unit is None:
            return ""
        name = unit.get_top_DIE().attributes.get("DW_AT_name")
        path = name.value.decode(errors="replace") if name else ""
    # The first unit is of the code at the kernel's begin: /tree/arch/x86/kernel/head_64.S
    head, arch, _ = path.rpartition("/arch/")
    return head if arch and path.startswith("/") else ""


def _require_same_build(vmlinux: Path, image: KernelImage) -> None:
    if not elf.holds_build_id(image.boot, elf.build_id(vmlinux)):
        raise UsageError(
            f"{vmlinux} is of another build than the kernel that boots ({image.description}): "
            "their build ids differ",
            "Take the vmlinux that was made along with it.",
        )


def _package(image: KernelImage) -> Package | None:
    """Return the package that holds a Debian kernel; its name begins with `linux-image-`."""
    release = image.release
    for package in image.provenance.packages:
        if re.fullmatch(
            rf"linux-(?:image|binary)-{re.escape(release)}(?:-unsigned)?", package.name
        ):
            return package
    return None


def _folder(cache: Cache, image: KernelImage) -> Path | None:
    """Return where the symbols of a packaged kernel are kept, or None for another kernel."""
    package = _package(image)
    if package is None:
        return None
    name = f"linux-image-{image.release}-dbg_{package.version}_{image.arch}"
    return cache.root / "symbols" / re.sub(r"[^\w.+~-]", "-", name)


def _fetched(
    kernel: KernelConfig,
    image: KernelImage,
    cache: Cache,
    progress: Progress,
    announce: Callable[[str], None],
) -> Symbols:
    folder, package = _folder(cache, image), _package(image)
    if kernel.source.apt is None or folder is None or package is None:
        raise KernelUnavailableError(
            f"{kernel.id}: nobody knows where the vmlinux of {image.description} is",
            "Name it with --vmlinux, and its source tree with --source; or debug a kernel that "
            "`invoke kernels.build` built, or one of Debian's.",
        )
    from bpfmatrix.kernels.sources.apt_archive import Archive  # noqa: PLC0415 - off the start-up path
    from bpfmatrix.kernels.store import require_space  # noqa: PLC0415

    names = re.compile(r"Package: linux-(?:image-[^\n]*-dbg|source-[^\n]*)\n")
    with cache.lock(f"symbols-{folder.name}"):
        if known := at_hand(kernel.root, image, cache):  # another process fetched them
            return known
        archive = Archive.of(cache, kernel, kernel.source.apt)
        with archive.locked(), cache.staging() as staging:
            archive.update(progress)
            debs = {(deb.name, deb.version): deb for deb in archive.debs(names)}
            wanted = f"linux-image-{image.release}-dbg"
            deb = debs.get((wanted, package.version))
            if deb is None:
                raise KernelUnavailableError(
                    f"{archive.suite} no longer has {wanted} {package.version}, which has the "
                    f"symbols of {image.description}",
                    f"`invoke kernels.update --kernel {kernel.id}` gets the release that it has "
                    "now; or name a vmlinux with --vmlinux.",
                )
            series = re.match(r"\d+\.\d+", image.version)
            source = debs.get((f"linux-source-{series[0] if series else ''}", package.version))
            sizes = deb.size_bytes + (source.size_bytes if source else 0)
            what = f"{wanted}{f' and {source.name}' if source else ''}"
            announce(f"{image.release}: {sizes / 1e6:.0f} MB to fetch once ({what})")
            require_space(cache.root, sizes + deb.installed_bytes + _TREE_BYTES)
            made = staging / "made"
            made.mkdir()
            for each in filter(None, (deb, source)):
                (place := staging / each.name).mkdir()
                (file,) = archive.download([each], place, progress)
                progress(f"{each.name}: unpacking")
                if each is deb:
                    _take_vmlinux(file, place, made / "vmlinux")
                else:
                    _take_tree(file, made / "source", image.arch)
                shutil.rmtree(place)
            _require_same_build(made / "vmlinux", image)
            (made / _BUILT_IN).write_text(_built_in(made / "vmlinux"))
            folder.parent.mkdir(exist_ok=True)
            made.rename(folder)
    known = at_hand(kernel.root, image, cache)
    assert known is not None, "what was just fetched is there"
    return known


def _take_vmlinux(deb: Path, folder: Path, target: Path) -> None:
    """Take the vmlinux out of a -dbg package, and nothing else of it.

    It is /usr/lib/debug/boot/vmlinux-RELEASE, to which others of that name are links; newer
    packages have it below /usr/lib/debug/usr/lib/modules.
    """
    _unpack(deb, ["-C", folder, "--wildcards", "*/vmlinux*"])
    found = [path for path in folder.rglob("vmlinux*") if path.is_file() and not path.is_symlink()]
    if not found:
        raise KernelUnavailableError(f"{deb.name} holds no vmlinux")
    max(found, key=lambda path: path.stat().st_size).rename(target)


def _take_tree(deb: Path, target: Path, arch: str) -> None:
    """Unpack the source tree in a package linux-source-X, without what is of no use here."""
    target.mkdir()
    inner = deb.parent / "tree.tar"
    with inner.open("wb") as file:
        _unpack(deb, ["--to-stdout", "--wildcards", "./usr/src/linux-source-*.tar.*"], file)
    left_out = [f"--exclude={name}" for name in (*_LEFT_OUT, *_other_architectures(arch))]
    _tar(["-f", inner, "-C", target, "--strip-components=1", "--wildcards", *left_out])


def _other_architectures(arch: str) -> list[str]:
    # tar has no pattern for "all but": names of folders in arch/ begin with these letters.
    own = _ARCH_FOLDER[arch]
    folders = (
        *("alpha", "arc", "arm", "arm64", "csky", "hexagon", "ia64", "loongarch", "m68k"),
        *("microblaze", "mips", "nios2", "openrisc", "parisc", "powerpc", "riscv", "s390"),
        *("sh", "sparc", "um", "x86", "xtensa"),
    )
    return [f"*/arch/{name}/*" for name in folders if name != own]


def _unpack(deb: Path, words: list[str | Path], output: IO[bytes] | None = None) -> None:
    """Let tar read the files of a package."""
    # dpkg-deb knows every compression that a package's data may have.
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as reader:
        _tar(words, reader.stdout, output)


def _tar(
    words: list[str | Path], stdin: IO[bytes] | None = None, output: IO[bytes] | None = None
) -> None:
    done = subprocess.run(
        ["tar", "--extract", *words],
        stdin=stdin or subprocess.DEVNULL,
        stdout=output or subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        raise BpfmatrixError(
            f"the symbols can't be unpacked: {said[0] if said else 'tar gave no reason'}",
            "Free some space." if "No space left" in "".join(said) else "Try again.",
        )


def prune(cache: Cache, unused_seconds: float) -> list[Pruned]:
    """Remove the symbols that nobody used for so long."""
    removed = []
    for folder in sorted((cache.root / "symbols").glob("*")):
        # That of gdb's indexes is always in use.
        if time.time() - folder.stat().st_mtime < unused_seconds:
            continue
        with cache.staging() as staging:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            folder.rename(staging / folder.name)
        removed.append(Pruned(f"symbols/{folder.name.partition('_')[0]}", size))
    return removed

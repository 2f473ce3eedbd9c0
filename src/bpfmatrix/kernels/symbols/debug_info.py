"""Which vmlinux and which source tree belong to a kernel.

A kernel that `invoke kernels.build` built has both where it was built. For a kernel in Debian's
packages, both are fetched from the archive (see `debian`), and stay in the cache. For any other
kernel, the user names them.
"""

import contextlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bpfmatrix.config.models import KernelConfig
from bpfmatrix.errors import KernelUnavailableError, UsageError
from bpfmatrix.host.cache import Cache, Pruned
from bpfmatrix.host.front_end import command
from bpfmatrix.host.progress import Progress, silent
from bpfmatrix.kernels.image import KernelImage, Package
from bpfmatrix.kernels.symbols import elf

__all__ = ["Symbols", "at_hand", "fetchable", "get", "names_file", "prune"]

# A file beside a fetched vmlinux that says where its sources were when it was built.
_BUILT_IN = "built-in"


@dataclass(frozen=True)
class Symbols:
    """The files of one kernel that a debugger reads."""

    vmlinux: Path
    source: Path | None
    """The source tree, or None if there is none."""
    moved_from: str = ""
    """The folder of the source tree when the kernel was built, if it is another one now."""
    scripts: Path | None = None
    """The kernel's own scripts for gdb (`vmlinux-gdb.py`), if it was built with them."""
    origin: str = ""
    """Where the files are from, for people."""
    has_types: bool = True
    """Whether `vmlinux` has DWARF, and not only the names of functions."""


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
    """Return the symbols of a kernel, and fetch them if they are not on this host.

    `vmlinux` and `source` are what the user names. `announce` is called with the size of the
    download before it begins. UsageError for a vmlinux of another build, KernelUnavailableError if
    there is no vmlinux.
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
    """Return the symbols of a kernel if nothing must be fetched for them, else None."""
    if built := _of_build(project_root, image):
        return built
    folder = _folder(cache, image)
    if folder and (folder / "vmlinux").exists():
        with contextlib.suppress(OSError):
            os.utime(folder)  # `prune` goes by the time of the last use
        tree = folder / "source"
        said = " ".join(folder.name.split("_")[:2])
        moved = (folder / _BUILT_IN).read_text() if (folder / _BUILT_IN).exists() else ""
        return Symbols(folder / "vmlinux", tree if tree.is_dir() else None, moved, origin=said)
    # The kernel may be booted as the vmlinux of its build, with all of its sections.
    if elf.has_lines(image.boot):
        return Symbols(image.boot, None, origin="the kernel's own file")
    return None


def fetchable(kernel: KernelConfig, image: KernelImage) -> bool:
    """Whether `get` knows where to fetch the symbols of a kernel from."""
    return kernel.source.apt is not None and _package(image) is not None


def names_file(cache: Cache, image: KernelImage) -> Path:
    """Return the path for an ELF file that has the names of functions and nothing else."""
    return cache.root / "symbols" / f"names_{image.digest.removeprefix('sha256:')[:32]}" / "vmlinux"


def _of_build(root: Path, image: KernelImage) -> Symbols | None:
    """Return the symbols of a kernel that was built here; None for any other kernel."""
    for folder in _built_folders(root, image):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            about = json.loads((folder / "build.json").read_bytes())
            if f"sha256:{about['sha256']['vmlinuz']}" != image.digest:
                continue
            tree, objects = Path(about["tree"]), Path(about["objects"])
            here = folder.parent / "_build" / tree.name
            # The project may have been moved, with the source tree and the objects in it.
            moved = "" if tree.is_dir() or not here.is_dir() else str(tree)
            source = here if moved else tree
            if not objects.is_dir():
                objects = folder.parent / "_build" / objects.name
            # A build without --debug has the lines only in the vmlinux that make left.
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
    """Return the folders of builds: those that the image was copied from, and `ci-kernels/*`."""
    named = [Path(package.name).parent for package in image.provenance.packages]
    beside = [root / folder for folder in named if folder != Path()]
    return [*beside, *(path.parent for path in sorted(root.glob("ci-kernels/*/build.json")))]


def _built_in(vmlinux: Path) -> str:
    """Return the folder of the sources when a vmlinux was built, or "" if DWARF does not have it.

    It is needed for absolute paths only. Debian's kernels have relative paths of C files, and
    absolute paths of assembly files.
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
    # The first unit is the code at the start of the kernel: /tree/arch/x86/kernel/head_64.S
    head, arch, _ = path.rpartition("/arch/")
    return head if arch and path.startswith("/") else ""


def _require_same_build(vmlinux: Path, image: KernelImage) -> None:
    if not elf.holds_build_id(image.boot, elf.build_id(vmlinux)):
        raise UsageError(
            f"{vmlinux} is of another build than the kernel that boots ({image.description}): "
            "their build ids differ",
            "Name the vmlinux of the same build.",
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
    """Return the folder of the cache for the symbols of a packaged kernel; None for another."""
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
    """Fetch what belongs to a packaged kernel into the cache."""
    folder, package = _folder(cache, image), _package(image)
    if kernel.source.apt is None or folder is None or package is None:
        raise KernelUnavailableError(
            f"{kernel.id}: the vmlinux of {image.description} is not known",
            "Name it with --vmlinux, and its source tree with --source; or debug a kernel that "
            f"`{command('kernels.build')}` built, or one of Debian's.",
        )
    from bpfmatrix.kernels.symbols import debian  # noqa: PLC0415 - off the start-up path

    with cache.lock(f"symbols-{folder.name}"):
        if known := at_hand(kernel.root, image, cache):  # another process fetched them
            return known
        with cache.staging() as staging:
            new = staging / "new"
            new.mkdir()
            debian.fetch(kernel, image, package.version, new, cache, progress, announce)
            _require_same_build(new / "vmlinux", image)
            (new / _BUILT_IN).write_text(_built_in(new / "vmlinux"))
            folder.parent.mkdir(exist_ok=True)
            new.rename(folder)
    known = at_hand(kernel.root, image, cache)
    assert known is not None, "what was just fetched is there"
    return known


def prune(cache: Cache, unused_seconds: float) -> list[Pruned]:
    """Remove the symbols that were not used for this time; return what was removed."""
    removed = []
    for folder in sorted((cache.root / "symbols").glob("*")):
        if time.time() - folder.stat().st_mtime < unused_seconds:
            continue
        with cache.staging() as staging:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            folder.rename(staging / folder.name)
        removed.append(Pruned(f"symbols/{folder.name.partition('_')[0]}", size))
    return removed

"""The layers of a container image, and the kernel in them.

`merge` reads layers (tar archives; plain, gzip or zstd) in their order and gives the image's tree,
as the OCI image specification's layer.md says: later entries replace earlier ones, `.wh.NAME`
removes NAME, and `.wh..wh..opq` removes all that earlier layers have in a folder. `find_kernel`
picks the kernel from that tree.

A layer's names are never used as names on the host: the tree is in memory, and the files that are
taken lie beside each other under numbers. So nothing can be written elsewhere; a layer that tries
is refused all the same, as it is no honest image.
"""

import contextlib
import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from bpfmatrix.errors import BpfmatrixError, KernelUnavailableError
from bpfmatrix.kernels.formats.compression import format_of
from bpfmatrix.kernels.image_files import BOOT_NAMES

__all__ = ["Folder", "ImageKernel", "find_kernel", "merge", "printable"]

# What is taken from a layer: of cilium/ci-kernels boot/ and lib/modules/, of little-vm-helper's
# images the same below data/kernels/<name>/.
_WANTED = re.compile(
    r"(data/kernels/[^/]+/)?"
    r"(boot/(vmlinu[xz]|bzImage|Image|config)[^/]*|(usr/)?lib/modules/.+)"
)
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
# No path of a kernel's module is half as deep.
_MOST_FOLDERS = 50
# The largest published kernel images unpack to some 1.5 GB: what is larger than this is damaged or
# hostile.
LIMIT_BYTES = 8 << 30
# As Linux (MAXSYMLINKS).
_MOST_LINKS = 40


@dataclass(frozen=True)
class _Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class _Other:
    """Something that is there but was not taken."""


@dataclass
class Folder:
    """A folder of an image, or of one layer."""

    names: "dict[str, Folder | Path | _Link | _Other]" = field(default_factory=dict)
    """A file that was taken is the path of its copy."""
    declared: bool = False
    """Whether the layer has an entry for the folder itself, and not only for what is in it."""
    opaque: bool = False
    """Whether what earlier layers have in it is gone."""
    gone: set[str] = field(default_factory=set)
    """What earlier layers may have in it, and is gone."""

    def files(self, prefix: str = "") -> Iterator[tuple[str, Path]]:
        """Give the files in it and below, by their paths relative to it."""
        for name, node in sorted(self.names.items()):
            if isinstance(node, Folder):
                yield from node.files(f"{prefix}{name}/")
            elif isinstance(node, Path):
                yield prefix + name, node


@dataclass(frozen=True)
class ImageKernel:
    """The parts of an image that make a kernel."""

    vmlinuz: Path
    name: str
    """Its path in the image."""
    config: Path | None
    lib_modules: Folder | None

    def modules(self, release: str) -> Mapping[str, Path]:
        """Return the files of `lib/modules/<release>`."""
        own = self.lib_modules.names.get(release) if self.lib_modules else None
        return dict(own.files()) if isinstance(own, Folder) else {}


def merge(layers: Sequence[Path], folder: Path) -> Folder:
    """Read layers, the lowest first, and return the image's tree; files are put into `folder`.

    BpfmatrixError for a layer that can't be read, or that tries to write elsewhere.
    """
    image, reader = Folder(), _Reader(folder)
    # ValueError: tarfile lets some errors of numbers pass.
    damage = (tarfile.TarError, ValueError, EOFError, zlib.error, gzip.BadGzipFile, _zstd_error())
    for number, path in enumerate(layers, start=1):
        try:
            with _opened(path) as archive:
                layer = reader.read(archive, image)
        except damage as error:
            raise BpfmatrixError(
                f"layer {number} of {len(layers)} can't be unpacked: {error}"
            ) from error
        _overlay(image, layer, "")
    return image


def _zstd_error() -> type[Exception]:
    import zstandard  # noqa: PLC0415 - off the start-up path

    return zstandard.ZstdError


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    with contextlib.ExitStack() as stack:
        file = cast("IO[bytes]", stack.enter_context(path.open("rb")))
        # By content: registries hold gzip layers that are declared as plain, and the reverse.
        kind = format_of(file.read(8))
        file.seek(0)
        if kind == "gzip":
            file = cast("IO[bytes]", stack.enter_context(gzip.open(file)))
        elif kind == "zstd":
            import zstandard  # noqa: PLC0415 - off the start-up path

            unpacker = zstandard.ZstdDecompressor()
            file = stack.enter_context(unpacker.stream_reader(file, read_across_frames=True))
        yield stack.enter_context(tarfile.open(fileobj=file, mode="r|"))


class _Reader:
    """Reads layers; knows how much of them was taken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = self._bytes = 0

    def read(self, archive: tarfile.TarFile, image: Folder) -> Folder:
        """Read one layer; `image` is what lies below it, which hard links may name."""
        layer = Folder()
        for entry in archive:
            path = _checked(entry.name, entry.name)
            if not path:  # "./", the layer's own root
                continue
            parent = _parent(layer, path, entry.name)
            name = path[-1]
            if name == _OPAQUE:
                parent.opaque = True
            elif name.startswith(_WHITEOUT):
                parent.gone.add(name.removeprefix(_WHITEOUT))
            elif entry.isdir():
                there = parent.names.get(name)
                if not isinstance(there, Folder):
                    there = parent.names[name] = Folder()
                there.declared = True
            elif entry.issym():
                parent.names[name] = _Link(entry.linkname)
            elif entry.islnk():
                parent.names[name] = _linked(entry, layer, image)
            elif entry.isreg() and _WANTED.fullmatch("/".join(path)):
                parent.names[name] = self._taken(archive, entry)
            else:
                parent.names[name] = _Other()
        return layer

    def _taken(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Path:
        self._count += 1
        self._bytes += entry.size
        if self._bytes > LIMIT_BYTES:
            raise BpfmatrixError(
                f"the image's kernel and modules are larger than {LIMIT_BYTES >> 30} GiB"
            )
        target = self._folder / str(self._count)
        file = archive.extractfile(entry)
        assert file is not None
        with target.open("xb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
        return target


def _checked(path: str, entry: str) -> tuple[str, ...]:
    """Return the parts of a path in a layer; `entry` is the name of what has it."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/"):
        raise _refused(entry, "has an absolute path" if path == entry else f"leads to {path}")
    if ".." in parts:
        what = "leads out of the image" if path == entry else f"leads out of the image, to {path}"
        raise _refused(entry, what)
    if "\0" in path or len(parts) > _MOST_FOLDERS:
        raise _refused(entry, "has a path that no file system would take")
    return parts


def _parent(layer: Folder, path: tuple[str, ...], entry: str) -> Folder:
    """Return the folder that an entry lies in, made where the layer does not have it."""
    folder = layer
    for depth, name in enumerate(path[:-1], start=1):
        node = folder.names.setdefault(name, Folder())
        if isinstance(node, _Link):
            raise _refused(
                entry, f"is written through the link {'/'.join(path[:depth])} -> {node.target}"
            )
        if not isinstance(node, Folder):
            raise _refused(entry, f"lies below {'/'.join(path[:depth])}, which is no folder")
        folder = node
    return folder


def _linked(entry: tarfile.TarInfo, layer: Folder, image: Folder) -> Path | _Other:
    """Return what a hard link shares its content with."""
    target = _checked(entry.linkname, entry.name)
    for tree in (layer, image):
        node: object = tree
        for name in target:
            node = node.names.get(name) if isinstance(node, Folder) else None
        if isinstance(node, Path | _Other):
            break
    else:
        raise _refused(
            entry.name, f"is a hard link to {entry.linkname}, which is no file of the image"
        )
    if isinstance(node, _Other) and _WANTED.fullmatch("/".join(_checked(entry.name, entry.name))):
        raise _refused(
            entry.name, f"is a hard link to {entry.linkname}, where no kernel's files lie"
        )
    return node


def _refused(entry: str, what: str) -> BpfmatrixError:
    return BpfmatrixError(
        f"the image is refused: its entry {printable(entry, 150)} {printable(what, 300)}",
        "Such an entry writes elsewhere when it is unpacked carelessly; use another image.",
    )


def printable(text: str, limit: int) -> str:
    """Return a text that came from elsewhere so that it can do nothing to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:limit])


def _overlay(lower: Folder, upper: Folder, path: str) -> None:
    if upper.opaque:
        lower.names.clear()
    for name in upper.gone:
        lower.names.pop(name, None)
    for name, node in upper.names.items():
        there = lower.names.get(name)
        if isinstance(node, Folder):
            if isinstance(there, _Link) and not node.declared:
                inside = f"{path}{name}/{next(iter(node.names), '')}"
                raise _refused(
                    inside, f"is written through the link {path}{name} -> {there.target}"
                )
            if not isinstance(there, Folder):
                # Through `_overlay`, so that whiteouts of what is not there leave no trace.
                there = lower.names[name] = Folder()
            _overlay(there, node, f"{path}{name}/")
        else:
            lower.names[name] = node


def find_kernel(image: Folder, wanted: str) -> ImageKernel:
    """Return the kernel of an image; `wanted` is a release that decides if there are several."""
    kernels = _resolve(image, "data/kernels")
    names = sorted(kernels.names) if isinstance(kernels, Folder) else []
    found = [
        kernel
        for base in ("", *(f"data/kernels/{name}/" for name in names))
        for kernel in _kernels_at(image, base)
    ]
    if not found:
        raise KernelUnavailableError(
            "there is no kernel in the image",
            "Expected is boot/vmlinuz, boot/vmlinux, or data/kernels/NAME/boot/vmlinuz-RELEASE.",
        )
    if len(found) > 1:
        found = [
            k for k in found if re.search(rf"(^|[-/]){re.escape(wanted)}(?!\d)", k.name)
        ] or found
    if len(found) > 1:
        raise KernelUnavailableError(
            f"there are several kernels in the image: {', '.join(k.name for k in found)}",
            "Let the id in kernels.yaml begin with the release of one of them.",
        )
    return found[0]


def _kernels_at(image: Folder, base: str) -> Iterator[ImageKernel]:
    """Give the kernel `boot/vmlinuz`, or those with a release in their names."""
    boot = _resolve(image, f"{base}boot")
    there = sorted(boot.names) if isinstance(boot, Folder) else []
    plain = [name for name in BOOT_NAMES if name in there]
    named = [name for kind in ("vmlinuz-", "vmlinux-") for name in there if name.startswith(kind)]
    modules = _resolve(image, f"{base}lib/modules") or _resolve(image, f"{base}usr/lib/modules")
    seen: set[str] = set()
    for name in plain[:1] or named:
        release = name.partition("-")[2]
        vmlinuz = _resolve(image, f"{base}boot/{name}")
        if not isinstance(vmlinuz, Path) or release in seen:
            continue
        seen.add(release)
        config = _resolve(image, f"{base}boot/config{'-' if release else ''}{release}")
        yield ImageKernel(
            vmlinuz,
            printable(f"{base}boot/{name}", 400),
            config if isinstance(config, Path) else None,
            modules if isinstance(modules, Folder) else None,
        )


def _resolve(image: Folder, path: str) -> Folder | Path | None:
    """Return what a path leads to, through links, within the image; None if that is nothing."""
    links, way = 0, [image]
    parts = [part for part in reversed(path.split("/")) if part]
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            way = way[:-1] or way
            continue
        node = way[-1].names.get(part)
        if isinstance(node, Folder):
            way.append(node)
        elif isinstance(node, _Link):
            links += 1
            if links > _MOST_LINKS:
                return None
            if node.target.startswith("/"):
                way = way[:1]
            parts.extend(reversed(node.target.split("/")))
        else:
            return node if isinstance(node, Path) and not parts else None
    return way[-1]

"""The layers of a container image, and the kernel in them.

`merge` reads layers (tar archives; plain, gzip or zstd) in their order and returns the image's
folders and files, as layer.md of the OCI image specification says: later entries replace earlier
ones, `.wh.NAME` removes NAME, and `.wh..wh..opq` removes all that earlier layers have in a folder.
`find_kernel` finds the kernel in them.

The names in a layer are never used as names on the host: folders exist in memory only, and the
extracted files are beside each other, with numbers as names. So an entry can't be written outside
of the staging folder. A layer that tries is refused all the same, as no honest image does.
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
from bpfmatrix.host import text
from bpfmatrix.kernels.formats.compression import format_of
from bpfmatrix.kernels.image_files import BOOT_NAMES

__all__ = ["ImageFolder", "ImageKernel", "find_kernel", "merge", "printable"]

# The files that are extracted: boot/ and lib/modules/ of cilium/ci-kernels, and the same folders
# below data/kernels/<name>/ of little-vm-helper's images.
_WANTED = re.compile(
    r"(data/kernels/[^/]+/)?"
    r"(boot/(vmlinu[xz]|bzImage|Image|config)[^/]*|(usr/)?lib/modules/.+)"
)
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
# The path of a kernel's module has half as many parts at most.
_PATH_PARTS_LIMIT = 50
# The largest published kernel images unpack to some 1.5 GB. An image that unpacks to more than this
# limit is damaged or hostile.
LIMIT_BYTES = 8 << 30
# Linux's own limit (MAXSYMLINKS).
_LINKS_LIMIT = 40


@dataclass(frozen=True)
class _Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class _Ignored:
    """A file or a device that is not extracted."""


@dataclass
class ImageFolder:
    """A folder of an image, or of one layer."""

    names: "dict[str, ImageFolder | Path | _Link | _Ignored]" = field(default_factory=dict)
    """What is in it. An extracted file is the path of its copy on the host."""
    declared: bool = False
    """Whether the layer has an entry for the folder itself, and not only for files in it."""
    opaque: bool = False
    """Whether all that earlier layers have in it is removed."""
    removed: set[str] = field(default_factory=set)
    """Names in it that are removed, if earlier layers have them."""

    def files(self, prefix: str = "") -> Iterator[tuple[str, Path]]:
        """Give all extracted files below it, by their paths relative to it."""
        for name, node in sorted(self.names.items()):
            if isinstance(node, ImageFolder):
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
    lib_modules: ImageFolder | None

    def modules(self, release: str) -> Mapping[str, Path]:
        """Return the files of `lib/modules/<release>`."""
        own = self.lib_modules.names.get(release) if self.lib_modules else None
        return dict(own.files()) if isinstance(own, ImageFolder) else {}


def merge(layers: Sequence[Path], folder: Path) -> ImageFolder:
    """Read layers, the lowest first, and return the image's root; extract its files into `folder`.

    BpfmatrixError for a layer that can't be read, or that tries to write elsewhere.
    """
    image, reader = ImageFolder(), _Reader(folder)
    # ValueError, as tarfile does not catch it for all malformed numbers.
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
        # By the content: some images declare gzip layers as plain, and plain layers as gzip.
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
    """Reads layers, and counts what is extracted from all of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = self._bytes = 0

    def read(self, archive: tarfile.TarFile, image: ImageFolder) -> ImageFolder:
        """Read one layer; `image` is what the lower layers give, which hard links may name."""
        layer = ImageFolder()
        for entry in archive:
            path = _checked(entry.name, entry.name)
            if not path:  # "./", the layer's own root
                continue
            parent = _parent(layer, path, entry.name)
            name = path[-1]
            if name == _OPAQUE:
                parent.opaque = True
            elif name.startswith(_WHITEOUT):
                parent.removed.add(name.removeprefix(_WHITEOUT))
            elif entry.isdir():
                there = parent.names.get(name)
                if not isinstance(there, ImageFolder):
                    there = parent.names[name] = ImageFolder()
                there.declared = True
            elif entry.issym():
                parent.names[name] = _Link(entry.linkname)
            elif entry.islnk():
                parent.names[name] = _linked(entry, layer, image)
            elif entry.isreg() and _WANTED.fullmatch("/".join(path)):
                parent.names[name] = self._extracted(archive, entry)
            else:
                parent.names[name] = _Ignored()
        return layer

    def _extracted(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Path:
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
    """Return the parts of a path in a layer; `entry` is the entry that has this path or link."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if path.startswith("/"):
        raise _refused(entry, "has an absolute path" if path == entry else f"leads to {path}")
    if ".." in parts:
        what = "leads out of the image" if path == entry else f"leads out of the image, to {path}"
        raise _refused(entry, what)
    if "\0" in path or len(parts) > _PATH_PARTS_LIMIT:
        raise _refused(entry, "has a path that no file system would take")
    return parts


def _parent(layer: ImageFolder, path: tuple[str, ...], entry: str) -> ImageFolder:
    """Return the folder that an entry is in; create it if the layer has no entry for it."""
    folder = layer
    for depth, name in enumerate(path[:-1], start=1):
        node = folder.names.setdefault(name, ImageFolder())
        if isinstance(node, _Link):
            raise _refused(
                entry, f"is written through the link {'/'.join(path[:depth])} -> {node.target}"
            )
        if not isinstance(node, ImageFolder):
            raise _refused(entry, f"lies below {'/'.join(path[:depth])}, which is not a folder")
        folder = node
    return folder


def _linked(entry: tarfile.TarInfo, layer: ImageFolder, image: ImageFolder) -> Path | _Ignored:
    """Return the file that a hard link names."""
    target = _checked(entry.linkname, entry.name)
    for tree in (layer, image):
        node: object = tree
        for name in target:
            node = node.names.get(name) if isinstance(node, ImageFolder) else None
        if isinstance(node, Path | _Ignored):
            break
    else:
        raise _refused(
            entry.name, f"is a hard link to {entry.linkname}, which is not a file of the image"
        )
    if isinstance(node, _Ignored) and _WANTED.fullmatch("/".join(_checked(entry.name, entry.name))):
        raise _refused(
            entry.name, f"is a hard link to {entry.linkname}, where no kernel's files lie"
        )
    return node


def _refused(entry: str, what: str) -> BpfmatrixError:
    return BpfmatrixError(
        f"the image is refused: its entry {printable(entry, 150)} {printable(what, 300)}",
        "Such an entry writes elsewhere when it is unpacked carelessly; use another image.",
    )


def printable(words: str, limit: int) -> str:
    """Return the beginning of a text from an image as one line that a terminal does not obey."""
    return " ".join(text.printable(words[:limit]).split())


def _overlay(lower: ImageFolder, upper: ImageFolder, path: str) -> None:
    if upper.opaque:
        lower.names.clear()
    for name in upper.removed:
        lower.names.pop(name, None)
    for name, node in upper.names.items():
        there = lower.names.get(name)
        if isinstance(node, ImageFolder):
            if isinstance(there, _Link) and not node.declared:
                inside = f"{path}{name}/{next(iter(node.names), '')}"
                raise _refused(
                    inside, f"is written through the link {path}{name} -> {there.target}"
                )
            if not isinstance(there, ImageFolder):
                # An empty folder and `_overlay`, so that whiteouts in `node` are not copied.
                there = lower.names[name] = ImageFolder()
            _overlay(there, node, f"{path}{name}/")
        else:
            lower.names[name] = node


def find_kernel(image: ImageFolder, wanted: str) -> ImageKernel:
    """Return the kernel of an image; if there are several, the one of the release `wanted`."""
    kernels = _resolve(image, "data/kernels")
    names = sorted(kernels.names) if isinstance(kernels, ImageFolder) else []
    found = [
        kernel
        for base in ("", *(f"data/kernels/{name}/" for name in names))
        for kernel in _kernels_at(image, base)
    ]
    if not found:
        raise KernelUnavailableError(
            "there is no kernel in the image",
            "Expected: boot/vmlinuz, boot/vmlinux, or data/kernels/NAME/boot/vmlinuz-RELEASE.",
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


def _kernels_at(image: ImageFolder, base: str) -> Iterator[ImageKernel]:
    """Give the kernel `boot/vmlinuz`, or else each kernel with a release in its name."""
    boot = _resolve(image, f"{base}boot")
    there = sorted(boot.names) if isinstance(boot, ImageFolder) else []
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
            modules if isinstance(modules, ImageFolder) else None,
        )


def _resolve(image: ImageFolder, path: str) -> ImageFolder | Path | None:
    """Follow a path, and its symbolic links, within the image; None if it leads to nothing."""
    links, folders = 0, [image]
    parts = [part for part in reversed(path.split("/")) if part]
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            folders = folders[:-1] or folders
            continue
        node = folders[-1].names.get(part)
        if isinstance(node, ImageFolder):
            folders.append(node)
        elif isinstance(node, _Link):
            links += 1
            if links > _LINKS_LIMIT:
                return None
            if node.target.startswith("/"):
                folders = folders[:1]
            parts.extend(reversed(node.target.split("/")))
        else:
            return node if isinstance(node, Path) and not parts else None
    return folders[-1]

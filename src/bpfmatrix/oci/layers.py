"""The layers of a container image, and the tree of files that they make.

`merge` applies layers (tar archives; plain, gzip or zstd) in their order and returns the image's
root, as layer.md of the OCI image specification says: later entries replace earlier ones,
`.wh.NAME` removes NAME of the layers below, and `.wh..wh..opq` removes all that they have in a
folder.

The names in a layer are never used as names on the host: the tree exists in memory only, and the
extracted files are beside each other, with numbers as names. So an entry can't be written outside
of the staging folder. As with docker and containerd, an absolute name begins at the image's root,
and an entry below a symbolic link goes where that leads within the image: many images have a `lib`
that is a link to `usr/lib`. An entry that leads out of the image by `..` is refused.
"""

import contextlib
import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, TypeAlias, cast

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.host import text

__all__ = [
    "Attributes",
    "ImageFile",
    "ImageFolder",
    "ImageLink",
    "ImageNode",
    "ImageSpecial",
    "merge",
    "printable",
]

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
# PATH_MAX and NAME_MAX of Linux, and a limit for what is visited recursively.
_PATH_BYTES, _NAME_BYTES, _PATH_PARTS = 4095, 255, 200
# Linux's own limit (MAXSYMLINKS).
_LINKS_LIMIT = 40
# Extended attributes in the headers of pax archives, as star, GNU tar and Go's archive/tar name
# them.
_XATTR = "SCHILY.xattr."
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# tarfile reads what stands between two files as a whole: long names, pax headers, and the maps of
# sparse files. Those of real layers have a few KB.
_HEADER_BYTES = 1 << 20
# A layer of zeros becomes 1000 times smaller when it is packed. No image has that many bytes, and
# they are counted whether they are wanted or not.
_UNPACKED_BYTES = 64 << 30
# About what the tree takes in memory for a name, beside its extended attributes, and a limit for
# the whole tree: a million names.
_ENTRY_BYTES, _TREE_BYTES = 1 << 10, 1 << 30


@dataclass(frozen=True)
class Attributes:
    """The owner of a file or a folder, and what else its inode says."""

    mode: int
    """Its permissions, with setuid, setgid and the sticky bit: 12 bits."""
    uid: int = 0
    gid: int = 0
    modified_seconds: float = 0.0
    """When it was last modified, in seconds since 1970."""
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    """Its extended attributes, such as `security.capability`."""


# Of a folder for which no layer has an entry.
_IMPLIED = Attributes(0o755)


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A regular file. Hard links are the same object under several names."""

    content: Path | None
    """Its copy on the host; None if it was not extracted."""
    attributes: Attributes


@dataclass(frozen=True, eq=False)
class ImageLink:
    """A symbolic link."""

    target: str
    attributes: Attributes


@dataclass(frozen=True, eq=False)
class ImageSpecial:
    """A device or a FIFO."""

    kind: Literal["fifo", "device"]
    attributes: Attributes


@dataclass(eq=False)
class ImageFolder:
    """A folder of an image."""

    attributes: Attributes = _IMPLIED
    names: "dict[str, ImageNode]" = field(default_factory=dict)
    """What is in it."""
    layers: dict[str, int] = field(default_factory=dict)
    """The number of the layer that last had an entry for each name."""

    def files(self, prefix: str = "") -> Iterator[tuple[str, Path]]:
        """Give all extracted files below it, by their paths relative to it."""
        for name, node in sorted(self.names.items()):
            if isinstance(node, ImageFolder):
                yield from node.files(f"{prefix}{name}/")
            elif isinstance(node, ImageFile) and node.content is not None:
                yield prefix + name, node.content

    def resolve(self, path: str) -> "ImageNode | None":
        """Follow a path from this root, and symbolic links within it; None if there is nothing."""
        return _follow(self, path.split("/"), lambda _folder, _name: None)[0]


ImageNode: TypeAlias = ImageFolder | ImageFile | ImageLink | ImageSpecial


def merge(
    layers: Sequence[Path],
    folder: Path,
    is_wanted: Callable[[str], bool],
    limit_bytes: int,
    done: Callable[[float], None] = lambda _fraction: None,
) -> ImageFolder:
    """Read layers, the lowest first, and return the image's root; extract its files into `folder`.

    Only the regular files whose paths are wanted are extracted. `done` is told how much of the
    layers was read, from 0 to 1. BpfmatrixError for a layer that can't be read or leads out of the
    image, and if these files have more bytes than the limit, or the image is unreasonably large
    otherwise.
    """
    reader = _Reader(folder, is_wanted, limit_bytes)
    sizes = [path.stat().st_size for path in layers]
    # ValueError, as tarfile does not catch it for all malformed numbers, and RecursionError, as it
    # calls itself for each header that belongs to the one before.
    damage = (
        *(tarfile.TarError, ValueError, EOFError, RecursionError),
        *(zlib.error, gzip.BadGzipFile, _zstd_error()),
    )
    for number, path in enumerate(layers, start=1):
        try:
            with path.open("rb") as file, _unpacked(file) as unpacked:
                bounded = _Bounded(unpacked)
                before, whole = sum(sizes[: number - 1]), max(sum(sizes), 1)
                with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as archive:
                    for entry in archive:
                        # The next header begins at this offset. What is before it is content,
                        # which is passed over or extracted in small parts.
                        bounded.end = archive.offset + _HEADER_BYTES
                        reader.apply(archive, entry, number)
                        archive.members.clear()  # type: ignore[attr-defined]  # it would keep each
                        done((before + file.tell()) / whole)
        except damage as error:
            raise BpfmatrixError(
                f"layer {number} of {len(layers)} can't be unpacked: {error}"
            ) from error
    return reader.root


def _zstd_error() -> type[Exception]:
    import zstandard  # noqa: PLC0415 - off the start-up path

    return zstandard.ZstdError


class _Bounded:
    """A layer, unpacked, which can't be read beyond `end`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._at = file, 0
        self.end = _HEADER_BYTES

    def read(self, size: int) -> bytes:
        if self._at > _UNPACKED_BYTES:
            raise _too_large(f"a layer has more than {_UNPACKED_BYTES >> 30} GiB when unpacked")
        if self._at > self.end:
            raise _too_large(f"a layer has a header of more than {_HEADER_BYTES >> 20} MiB")
        data = self._file.read(size)
        self._at += len(data)
        return data


@contextlib.contextmanager
def _unpacked(packed: IO[bytes]) -> Iterator[IO[bytes]]:
    with contextlib.ExitStack() as stack:
        file = packed
        # By the content: some images declare gzip layers as plain, and plain layers as gzip.
        head = file.read(4)
        file.seek(0)
        if head.startswith(_GZIP):
            file = cast("IO[bytes]", stack.enter_context(gzip.open(file)))
        elif head == _ZSTD:
            import zstandard  # noqa: PLC0415 - off the start-up path

            unpacker = zstandard.ZstdDecompressor()
            file = stack.enter_context(unpacker.stream_reader(file, read_across_frames=True))
        yield file


class _Reader:
    """Applies layers to `root`, and counts what is extracted from all of them."""

    def __init__(self, folder: Path, is_wanted: Callable[[str], bool], limit_bytes: int) -> None:
        self.root = ImageFolder()
        self._folder, self._is_wanted, self._limit_bytes = folder, is_wanted, limit_bytes
        self._count = self._bytes = self._layer = self._tree_bytes = 0

    def apply(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, layer: int) -> None:
        """Apply one entry of a layer to what the entries before it give."""
        self._layer = layer
        self._tree_bytes += _ENTRY_BYTES + sum(
            len(key) + len(value) for key, value in entry.pax_headers.items()
        )
        if self._tree_bytes > _TREE_BYTES:
            raise _too_large("it has too many files, or too many attributes of files")
        path = _checked(entry.name, entry.name)
        if not path:  # "./", the image's root itself
            if entry.isdir():
                self.root.attributes = _attributes(entry)
            return
        parent, place = self._parent(path, entry.name)
        name = path[-1]
        there = parent.names.get(name)
        if name == _OPAQUE:
            self._hide(parent)
        elif name.startswith(_WHITEOUT):
            self._hide_name(parent, name.removeprefix(_WHITEOUT))
        elif entry.isdir() and isinstance(there, ImageFolder):
            there.attributes = _attributes(entry)
            parent.layers[name] = self._layer
        elif entry.isdir():
            self._put(parent, name, ImageFolder(_attributes(entry)))
        else:
            node = self._node(archive, entry, "/".join((*place, name)))
            self._put(parent, name, node)

    def _put(self, parent: ImageFolder, name: str, node: ImageNode) -> None:
        parent.names[name] = node
        parent.layers[name] = self._layer

    def _parent(self, path: tuple[str, ...], entry: str) -> tuple[ImageFolder, tuple[str, ...]]:
        """Return the folder that an entry is in, and its path without links.

        It is created if no layer has an entry for it.
        """

        def make(folder: ImageFolder, name: str) -> ImageFolder:
            made = ImageFolder()
            self._put(folder, name, made)
            return made

        found, place = _follow(self.root, path[:-1], make)
        if not isinstance(found, ImageFolder):
            raise _refused(entry, f"lies below {'/'.join(place)}, which is not a folder")
        return found, place

    def _hide(self, folder: ImageFolder) -> None:
        """Remove all that the lower layers have in a folder."""
        for name in list(folder.names):
            self._hide_name(folder, name)

    def _hide_name(self, folder: ImageFolder, name: str) -> None:
        """Remove a name of the lower layers, wherever in this layer its own entries for it are."""
        node = folder.names.get(name)
        if isinstance(node, ImageFolder):
            self._hide(node)
            if node.names:
                return
        if node is not None and folder.layers[name] < self._layer:
            del folder.names[name], folder.layers[name]

    def _node(self, archive: tarfile.TarFile, entry: tarfile.TarInfo, place: str) -> ImageNode:
        """Return what an entry is that is no folder."""
        if entry.islnk():
            return self._linked(entry, place)
        if entry.issym():
            return ImageLink(entry.linkname, _attributes(entry))
        if entry.isreg():
            content = self._extracted(archive, entry) if self._is_wanted(place) else None
            return ImageFile(content, _attributes(entry))
        return ImageSpecial("fifo" if entry.isfifo() else "device", _attributes(entry))

    def _linked(self, entry: tarfile.TarInfo, place: str) -> ImageNode:
        """Return the file that a hard link names."""
        target = _checked(entry.linkname, entry.name)
        folder, _ = _follow(self.root, target[:-1], lambda _folder, _name: None)
        node = folder.names.get(target[-1]) if isinstance(folder, ImageFolder) and target else None
        if node is None or isinstance(node, ImageFolder):
            raise _refused(
                entry.name, f"is a hard link to {entry.linkname}, which is not a file of the image"
            )
        if isinstance(node, ImageFile) and node.content is None and self._is_wanted(place):
            raise _refused(
                entry.name, f"is a hard link to {entry.linkname}, which is not looked for there"
            )
        return node

    def _extracted(self, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Path:
        self._count += 1
        self._bytes += entry.size
        if self._bytes > self._limit_bytes:
            raise BpfmatrixError(
                f"the image's files are larger than {self._limit_bytes >> 30} GiB when unpacked"
            )
        target = self._folder / str(self._count)
        file = archive.extractfile(entry)
        assert file is not None
        with target.open("xb") as out:
            shutil.copyfileobj(file, out, 1 << 20)
        return target


def _attributes(entry: tarfile.TarInfo) -> Attributes:
    xattrs = {
        key.removeprefix(_XATTR): value.encode(errors="surrogateescape")
        for key, value in entry.pax_headers.items()
        if key.startswith(_XATTR)
    }
    return Attributes(entry.mode & 0o7777, entry.uid, entry.gid, float(entry.mtime), xattrs)


def _checked(path: str, entry: str) -> tuple[str, ...]:
    """Return the parts of a path in a layer; `entry` is the entry that has this path or link."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in parts:
        what = "leads out of the image" if path == entry else f"leads out of the image, to {path}"
        raise _refused(entry, what)
    sizes = [len(part.encode(errors="surrogateescape")) for part in parts]
    if (
        "\0" in path
        or len(parts) > _PATH_PARTS
        or sum(sizes) + len(sizes) > _PATH_BYTES
        or max(sizes, default=0) > _NAME_BYTES
    ):
        raise _refused(entry, "has a path that no file system would take")
    return parts


def _follow(
    root: ImageFolder,
    path: Sequence[str],
    missing: Callable[[ImageFolder, str], ImageFolder | None],
) -> tuple[ImageNode | None, tuple[str, ...]]:
    """Follow a path from the root, and symbolic links within the image.

    Return what is there, or None, and the path without links that was come to. `missing` may give
    a folder for a name that does not exist.
    """
    links, folders, place = 0, [root], list[str]()
    parts = list(reversed(path))
    while parts:
        name = parts.pop()
        if name in ("", "."):
            continue
        if name == "..":
            folders, place = folders[:-1] or folders, place[:-1]
            continue
        node = folders[-1].names.get(name) or missing(folders[-1], name)
        if isinstance(node, ImageLink):
            links += 1
            if links > _LINKS_LIMIT:
                return None, (*place, name)
            if node.target.startswith("/"):
                folders, place = folders[:1], []
            parts.extend(reversed(node.target.split("/")))
            continue
        if not isinstance(node, ImageFolder):
            return None if any(parts) else node, (*place, name)
        folders.append(node)
        place.append(name)
    return folders[-1], tuple(place)


def _refused(entry: str, what: str) -> BpfmatrixError:
    return BpfmatrixError(
        f"the image is refused: its entry {printable(entry, 150)} {printable(what, 300)}",
        "Such an entry writes elsewhere when it is unpacked carelessly; use another image.",
    )


def _too_large(what: str) -> BpfmatrixError:
    return BpfmatrixError(
        f"the image is refused: {what}",
        "A small layer can be made to fill the memory when it is unpacked; use another image.",
    )


def printable(words: str, limit: int) -> str:
    """Return the beginning of a text from an image as one line that a terminal does not obey."""
    return " ".join(text.printable(words[:limit]).split())

"""The initramfs: what the guest has before its payload is mounted.

`base` takes a kernel's modules and gives a `newc` archive with busybox, the guest's init and the
modules that the machine needs. Packing is reproducible: the same input gives the same bytes.
"""

import contextlib
import os
import stat
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.guest import programs
from bpfmatrix.guest.busybox import applets
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256, sha256_of
from bpfmatrix.kernels.image import KernelImage
from bpfmatrix.kernels.vmlinuz import is_bzimage

__all__ = ["Entry", "base", "has_module", "is_intact", "pack", "stored", "unpack"]

# The kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a magic, then 13 numbers
# of 8 hexadecimal digits (ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor,
# rdevmajor, rdevminor, namesize with the final NUL, check), name and content padded to 4 bytes.
_MAGIC = b"070701"
_HEADER_BYTES = len(_MAGIC) + 13 * 8
_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_TRAILER = "TRAILER!!!"
_LARGEST = 0xFFFFFFFF

MODULES = (
    # What the machine is driven with. A name that is neither a module nor built in is refused
    # when the archive is made, except for those of OPTIONAL_MODULES.
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "ext4",
)
# The first is the checksum that ext4 asks for by the name of its algorithm, where that is not built
# in: no dependency tells of it. The others tell QEMU of a panic; what was `pvpanic` up to 5.12 is
# `pvpanic-mmio` for the ISA device of x86_64 since 5.13, and `pvpanic-pci` for that of arm64.
OPTIONAL_MODULES = ("crc32c_generic", "pvpanic", "pvpanic-mmio", "pvpanic-pci")

# What the guest's sight of the host's files takes: options, and what a kernel prints or calls them.
_OPTIONS = {
    "virtiofs": "CONFIG_VIRTIO_FS",
    "9p": "CONFIG_9P_FS",
    "9pnet_virtio": "CONFIG_NET_9P_VIRTIO",
    "overlay": "CONFIG_OVERLAY_FS",
    "virtio_net": "CONFIG_VIRTIO_NET",
}
_REGISTERED = {
    "virtiofs": b"\0virtiofs\0",
    "9p": b"9p: Installing v9fs",
    "9pnet_virtio": b"9pnet_virtio",
    "overlay": b"overlayfs: ",
    "virtio_net": b"\0virtio_net\0",
}


@dataclass(frozen=True)
class Entry:
    """A file, folder, symbolic link (`content` is its target) or character device."""

    name: str
    mode: int
    content: bytes = b""
    device: tuple[int, int] = (0, 0)

    @classmethod
    def file(cls, name: str, content: bytes, *, executable: bool = False) -> "Entry":
        """Return a regular file of root's, 0755 or 0644."""
        return cls(name, stat.S_IFREG | (0o755 if executable else 0o644), content)

    @classmethod
    def folder(cls, name: str) -> "Entry":
        """Return a folder of root's, 0755."""
        return cls(name, stat.S_IFDIR | 0o755)

    @classmethod
    def link(cls, name: str, target: str) -> "Entry":
        """Return a symbolic link."""
        return cls(name, stat.S_IFLNK | 0o777, target.encode())


def pack(entries: Iterable[Entry]) -> bytes:
    """Return an uncompressed `newc` archive of the entries, in their order, owned by root.

    A folder must come before what is in it: the kernel does not make missing ones. ValueError for
    a name that is absolute, empty or taken, or a content that the format can't hold.
    """
    archive, names = bytearray(), set()
    for number, entry in enumerate(entries, start=1):
        name = entry.name.encode()
        parts = entry.name.split("/")
        if {"", ".", ".."}.intersection(parts) or b"\0" in name or entry.name == _TRAILER:
            raise ValueError(f"no name for an archive's entry: {entry.name!r}")
        if entry.name in names:
            raise ValueError(f"twice in one archive: {entry.name!r}")
        if len(entry.content) > _LARGEST:
            raise ValueError(f"{entry.name}: over 4 GiB, which the newc format can't hold")
        names.add(entry.name)
        _append(archive, number, entry, name)
    _append(archive, 0, Entry(_TRAILER, 0), _TRAILER.encode())
    return bytes(archive)


def _append(archive: bytearray, number: int, entry: Entry, name: bytes) -> None:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    size = len(entry.content)
    fields = (number, entry.mode, 0, 0, links, 0, size, 0, 0, *entry.device, len(name) + 1, 0)
    archive += _MAGIC + b"".join(b"%08x" % field for field in fields) + name + b"\0"
    archive += bytes(-len(archive) % 4)
    archive += entry.content
    archive += bytes(-len(archive) % 4)


def unpack(archive: bytes) -> list[Entry]:
    """Return the entries of an uncompressed `newc` archive; ValueError where it is none."""
    entries: list[Entry] = []
    position = 0
    while True:
        header = archive[position : position + _HEADER_BYTES]
        if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
            raise ValueError(f"no newc header at byte {position}")
        digits = struct.unpack("8s" * 13, header[len(_MAGIC) :])
        if not all(_DIGITS.issuperset(field) for field in digits):
            raise ValueError(f"no newc header at byte {position}")
        fields = [int(field, 16) for field in digits]
        mode, size, device, name_size = fields[1], fields[6], (fields[9], fields[10]), fields[11]
        start = position + _HEADER_BYTES
        name = archive[start : start + name_size - 1].decode()
        content_start = _aligned(start + name_size)
        position = _aligned(content_start + size)
        if position > len(archive):
            raise ValueError(f"the archive ends within {name!r}")
        if name == _TRAILER:
            return entries
        entries.append(Entry(name, mode, archive[content_start : content_start + size], device))


def _aligned(position: int) -> int:
    return (position + 3) & ~3


def base(image: KernelImage, busybox: Path, wanted: Iterable[str], cache: Cache) -> bytes:
    """Return the archive for a kernel. `busybox` is of the kernel's architecture.

    `wanted` are modules beyond those that the machine needs. A kernel without modules has all of
    that built in, or its boot will tell. `cache` keeps the guest's programs. BpfmatrixError names a
    module that does not exist, DamagedError one that is not as it was stored; for the errors of a
    program that does not build, see programs.
    """
    guest = resources.files("bpfmatrix") / "guest"
    entries = [
        *(Entry.folder(name) for name in ("bin", "dev", "etc", "lib", "payload", "proc", "root")),
        *(Entry.folder(name) for name in ("run", "sys", "tmp")),
        # For the time before devtmpfs is mounted: the kernel opens init's output on it.
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry.file("init", (guest / "init").read_bytes(), executable=True),
        Entry.file("etc/fstab", (guest / "fstab").read_bytes()),
        Entry.file("bin/core-to-host", (guest / "core-to-host").read_bytes(), executable=True),
        Entry.file("etc/shrc", (guest / "shrc").read_bytes()),
        Entry.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        Entry.file("etc/group", b"root:x:0:\n"),
        Entry.file("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n"),
        Entry.file("bin/busybox", busybox.read_bytes(), executable=True),
        *(Entry.link(f"bin/{applet}", "busybox") for applet in applets(busybox)),
        *(
            Entry.file(f"bin/{name}", content, executable=True)
            for name, content in programs.executables(image.arch, cache).items()
        ),
        # Paths that scripts name in their first line.
        Entry.link("sbin", "bin"),
        Entry.folder("usr"),
        Entry.link("usr/bin", "../bin"),
        Entry.link("usr/sbin", "../bin"),
    ]
    if image.config is not None:
        # Where libbpf and other loaders look for the values of __kconfig variables.
        config = image.config.read_bytes()
        entries += [Entry.folder("boot"), Entry.file(f"boot/config-{image.release}", config)]
    if image.modules is not None:
        entries += _module_entries(image, image.modules, tuple(wanted))
    return pack(entries)


def _module_entries(image: KernelImage, modules: Path, wanted: tuple[str, ...]) -> list[Entry]:
    """Return the wanted modules and what they depend on, with the lists that modprobe reads."""
    lists = image.read_modules(("modules.dep", "modules.builtin"))
    depends = _dependencies(lists["modules.dep"].decode())
    builtin = {_module_name(line) for line in lists["modules.builtin"].decode().splitlines()}
    paths: dict[str, None] = {}  # an ordered set
    loaded: list[str] = []
    for name in (*MODULES, *OPTIONAL_MODULES, *wanted):
        key = name.replace("-", "_")
        if key in depends:
            path, needs = depends[key]
            paths.update(dict.fromkeys((path, *needs)))
            loaded.append(name)
        elif key not in builtin and name not in OPTIONAL_MODULES:
            raise BpfmatrixError(
                f"the kernel {modules.name} has no module {name!r}, neither loadable nor built in",
                "Remove it from `modules:` in kernels.yaml." if name in wanted else "",
            )
    folder = f"lib/modules/{modules.name}"
    entries = [Entry.folder("lib/modules"), Entry.folder(folder)]
    made: set[str] = set()
    contents = image.read_modules(paths)
    for path in sorted(paths):
        for parent in reversed(Path(path).parents[:-1]):
            if str(parent) not in made:
                made.add(str(parent))
                entries.append(Entry.folder(f"{folder}/{parent}"))
        entries.append(Entry.file(f"{folder}/{path}", contents[path]))
    # A modules.dep of these alone: busybox's modprobe reads the whole file, and does so slowly.
    lines = (f"{path}: {' '.join(depends[_module_name(path)][1])}\n" for path in sorted(paths))
    entries.append(Entry.file(f"{folder}/modules.dep", "".join(lines).encode()))
    entries.append(Entry.file("etc/modules", "".join(f"{name}\n" for name in loaded).encode()))
    return entries


def has_module(image: KernelImage, name: str) -> bool:
    """Tell whether a kernel has this, as a module or built in.

    Of one whose source told neither its modules nor its configuration, its code is searched: what
    is built in registers under its name.
    """
    key = name.replace("-", "_")
    if image.modules is not None:
        lists = image.read_modules(("modules.dep", "modules.builtin"))
        builtin = {_module_name(line) for line in lists["modules.builtin"].decode().splitlines()}
        return key in _dependencies(lists["modules.dep"].decode()) or key in builtin
    if image.config is not None:
        return image.has_option(_OPTIONS[key])
    code = image.boot.read_bytes()
    if is_bzimage(code):
        return True  # it is compressed; the guest will tell
    return _REGISTERED[key] in code


def _dependencies(modules_dep: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Read depmod's list: a module's name to its path and the paths of what it needs."""
    found = {}
    for line in modules_dep.splitlines():
        path, _, needs = line.partition(":")
        found[_module_name(path)] = (path, tuple(needs.split()))
    return found


def _module_name(path: str) -> str:
    # The kernel takes - and _ for the same letter in a module's name.
    return Path(path).name.split(".")[0].replace("-", "_")


def stored(image: KernelImage, busybox: Path, wanted: Sequence[str], cache: Cache) -> Path:
    """Return a file of the cache that holds `base`'s archive, made if there is none.

    It is found by what it would be made of, and named by its content; `is_intact` compares.
    """
    folder = cache.root / "initramfs"
    known = folder / f"{_ingredients(image, busybox, wanted)}.name"
    with contextlib.suppress(OSError):
        path = folder / known.read_text()
        if path.is_file():
            for used in (known, path):
                os.utime(used)  # see Cache.prune_made
            return path
    archive = base(image, busybox, wanted, cache)
    path = folder / f"{sha256(archive)}.cpio"
    folder.mkdir(parents=True, exist_ok=True)
    with cache.staging() as staging:
        (staging / "archive").write_bytes(archive)
        (staging / "archive").replace(path)
        (staging / "name").write_text(path.name)
        (staging / "name").replace(known)
    return path


def is_intact(path: Path) -> bool:
    """Tell whether a file of `stored` still has the content that it is named by."""
    return sha256_of(path) == path.stem


def _ingredients(image: KernelImage, busybox: Path, wanted: Sequence[str]) -> str:
    """Return a checksum of all that `base` reads, without reading the kernel's modules."""
    guest = resources.files("bpfmatrix") / "guest"
    program = busybox.stat()
    return sha256(
        repr(
            (
                # The store names its folders by their content.
                (image.folder.name, image.digest, tuple(wanted), MODULES, OPTIONAL_MODULES),
                [(guest / name).read_bytes() for name in ("init", "fstab", "shrc", "core-to-host")],
                programs.digest(image.arch),
                (program.st_size, program.st_mtime_ns),
                Path(__file__).stat().st_mtime_ns,
            )
        )
    )[:32]

"""The kernel's modules in the guest.

`entries` gives the part of an initramfs that holds those that the machine needs; `has_module` tells
whether a kernel has one at all, and `loaded` which ones a guest loads. A kernel without modules
must have the drivers of the machine built in: `require_built_in`.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from bpfmatrix.errors import BpfmatrixError
from bpfmatrix.guest.cpio import Entry
from bpfmatrix.host.architecture import ARCHITECTURES
from bpfmatrix.kernels.formats.vmlinuz import is_compressed
from bpfmatrix.kernels.image import KernelImage

__all__ = ["entries", "has_module", "loadable", "loaded", "name_of", "require_built_in"]

# The drivers of the machine's devices. The kernel must have each of these, as a module or built in.
_REQUIRED = ("virtio_blk", "virtio_console", "ext4")
# The driver of the bus that these devices are on. That of s390x can't be a module, and is in no
# list of depmod (drivers/s390/virtio/Makefile of the kernel).
_BUS_DRIVERS = {"pci": ("virtio_pci",), "ccw": ()}
_OPTIONAL = (
    # ext4 requests this checksum by the name of the algorithm, so modules.dep does not list it.
    "crc32c_generic",
    # The drivers of QEMU's pvpanic device. Up to Linux 5.12 there is one, `pvpanic`, for ISA. Since
    # 5.13 `pvpanic-mmio` drives the ISA device (x86_64) and `pvpanic-pci` the PCI device (arm64).
    "pvpanic",
    "pvpanic-mmio",
    "pvpanic-pci",
    # Tests find /dev/loop*, and write to the files of their repository and of their root.
    "loop",
    "overlay",
)

# What `has_module` looks for if a kernel's source gave no modules: the option in the kernel's
# configuration, or a string that only a kernel with the module built in contains.
_OPTIONS = {
    "virtiofs": "CONFIG_VIRTIO_FS",
    "9p": "CONFIG_9P_FS",
    "9pnet_virtio": "CONFIG_NET_9P_VIRTIO",
    "overlay": "CONFIG_OVERLAY_FS",
    "virtio_net": "CONFIG_VIRTIO_NET",
    "virtio_blk": "CONFIG_VIRTIO_BLK",
    "virtio_console": "CONFIG_VIRTIO_CONSOLE",
}
_STRINGS = {
    "virtiofs": b"\0virtiofs\0",
    "9p": b"9p: Installing v9fs",
    "9pnet_virtio": b"9pnet_virtio",
    "overlay": b"overlayfs: ",
    "virtio_net": b"\0virtio_net\0",
    # The names of the drivers, which begin their parameters too (`virtio_blk.queue_depth`).
    "virtio_blk": b"virtio_blk\0",
    "virtio_console": b"virtio_console\0",
}


def entries(image: KernelImage, modules: Path, wanted: tuple[str, ...]) -> list[Entry]:
    """Return the files of an initramfs that modprobe needs to load these and the machine's modules.

    `modules` is the kernel's `lib/modules/<release>`. The files are the modules, the modules that
    they depend on, a modules.dep, and etc/modules, which tells the guest's init what to load.
    BpfmatrixError names a module that the kernel does not have.
    """
    depends, builtin = _lists(image)
    paths: dict[str, None] = {}  # an ordered set
    loaded: list[str] = []
    for name in (*_required(image), *_OPTIONAL, *wanted):
        key = _key(name)
        if key in depends:
            path, needs = depends[key]
            paths.update(dict.fromkeys((path, *needs)))
            loaded.append(name)
        elif key not in builtin and name not in _OPTIONAL:
            raise BpfmatrixError(
                f"the kernel {modules.name} has no module {name!r}, neither loadable nor built in",
                "Remove it from `modules:` in kernels.yaml." if name in wanted else "",
            )
    folder = f"lib/modules/{modules.name}"
    # busybox's modprobe reads all of modules.dep, and slowly: so it only lists these.
    lines = (f"{path}: {' '.join(depends[_key_of_path(path)][1])}\n" for path in sorted(paths))
    return [
        Entry.folder("lib/modules"),
        Entry.folder(folder),
        *_files(folder, image.read_modules(paths)),
        Entry.file(f"{folder}/modules.dep", "".join(lines).encode()),
        Entry.file("etc/modules", "".join(f"{name}\n" for name in loaded).encode()),
    ]


def require_built_in(image: KernelImage) -> None:
    """BpfmatrixError if a kernel whose source gave no modules can't drive the machine's devices.

    Its guest would never be ready.
    """
    for name in ("virtio_blk", "virtio_console"):
        if not has_module(image, name):
            raise BpfmatrixError(
                f"the kernel {image.release} has no {name} built in, and came without modules",
                f"Put its lib/modules/{image.release} beside the kernel, or name the package with "
                f"its modules; or build a kernel with {_OPTIONS[name]}=y.",
            )


def loadable(image: KernelImage, names: Collection[str]) -> tuple[str, ...]:
    """Return which of these modules a guest loads, named as in /sys/module; not built-in ones."""
    if image.modules is None or not names:
        return ()  # the lists take tens of milliseconds to read
    depends, _ = _lists(image)
    return tuple(key for key in map(_key, names) if key in depends)


def loaded(image: KernelImage, wanted: Iterable[str]) -> frozenset[str]:
    """Return the names of the modules that a guest loads, with those that they depend on.

    Names have `_` where files may have `-`. `wanted` are the modules that kernels.yaml names.
    """
    depends, _ = _lists(image)
    found: set[str] = set()
    for name in (*_required(image), *_OPTIONAL, *wanted):
        path, needs = depends.get(_key(name), ("", ()))
        found.update(_key_of_path(one) for one in (path, *needs) if one)
    return frozenset(found)


def name_of(path: Path) -> str:
    """Return the name of the module in a file, as `lsmod` prints it."""
    return _key_of_path(path.name)


def _required(image: KernelImage) -> tuple[str, ...]:
    return (*_BUS_DRIVERS[ARCHITECTURES[image.arch].virtio_bus], *_REQUIRED)


def _files(folder: str, contents: dict[str, bytes]) -> list[Entry]:
    """Return the files, by their paths below the folder, and the folders that they are in."""
    found: list[Entry] = []
    made: set[str] = set()
    for path in sorted(contents):
        for parent in reversed(Path(path).parents[:-1]):
            if str(parent) not in made:
                made.add(str(parent))
                found.append(Entry.folder(f"{folder}/{parent}"))
        found.append(Entry.file(f"{folder}/{path}", contents[path]))
    return found


def has_module(image: KernelImage, name: str) -> bool:
    """Tell whether a kernel has a module, loadable or built in.

    If the kernel's source gave neither modules nor a configuration, the kernel's image is searched
    for a string of the module. A compressed image can't be searched, and gives true.
    """
    key = _key(name)
    if image.modules is not None:
        depends, builtin = _lists(image)
        return key in depends or key in builtin
    if image.config is not None:
        return image.has_option(_OPTIONS[key])
    code = image.boot.read_bytes()
    if is_compressed(code):
        return True  # the guest says so if it can't load the module
    return _STRINGS[key] in code


def _lists(image: KernelImage) -> tuple[dict[str, tuple[str, tuple[str, ...]]], set[str]]:
    """Return the loadable modules and those that are built in, as depmod(8) lists them.

    For each loadable one: its path, and the paths of those that it depends on.
    """
    lists = image.read_modules(("modules.dep", "modules.builtin"))
    depends = {}
    for line in lists["modules.dep"].decode().splitlines():
        path, _, needs = line.partition(":")
        depends[_key_of_path(path)] = (path, tuple(needs.split()))
    builtin = {_key_of_path(line) for line in lists["modules.builtin"].decode().splitlines()}
    return depends, builtin


def _key_of_path(path: str) -> str:
    return _key(Path(path).name.split(".")[0])


def _key(name: str) -> str:
    # In the name of a module, the kernel does not distinguish - and _.
    return name.replace("-", "_")

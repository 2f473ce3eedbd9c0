"""The initramfs: what the guest has before its payload is mounted.

`build` gives a `newc` archive with busybox, the guest's init, and those modules of the kernel that
the machine needs. The same input gives the same bytes. `stored` keeps the archive in the cache.
"""

import stat
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from bpfmatrix.guest import modules, programs
from bpfmatrix.guest.busybox import applets
from bpfmatrix.guest.cpio import Entry, pack
from bpfmatrix.host import integrity, records
from bpfmatrix.host.cache import Cache
from bpfmatrix.host.checksum import sha256
from bpfmatrix.host.progress import Progress, announce, silent
from bpfmatrix.kernels.image import KernelImage

__all__ = ["build", "stored"]

_USERS = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"


def build(
    image: KernelImage,
    busybox: Path,
    wanted: Iterable[str],
    cache: Cache,
    progress: Progress = silent,
) -> bytes:
    """Return the archive for a kernel. `busybox` is an executable for the kernel's architecture.

    `wanted` names modules beyond those that the machine needs. If the image has no modules, they
    are taken to be built in. `cache` keeps the guest's own programs. BpfmatrixError names a module
    that the kernel does not have, or a driver that is not built in; DamagedError names a file
    whose content changed in the store; for the errors of a program that can't be built, see
    `programs`.
    """
    guest = resources.files("bpfmatrix") / "guest"
    entries = [
        *(Entry.folder(name) for name in ("bin", "dev", "etc", "lib", "payload", "proc", "root")),
        *(Entry.folder(name) for name in ("run", "sys", "tmp")),
        # The kernel opens this for init's output, before devtmpfs is mounted.
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry.file("init", (guest / "init").read_bytes(), executable=True),
        Entry.file("etc/fstab", (guest / "fstab").read_bytes()),
        Entry.file("bin/core-to-host", (guest / "core-to-host").read_bytes(), executable=True),
        Entry.file("etc/shrc", (guest / "shrc").read_bytes()),
        Entry.file("etc/passwd", _USERS),
        Entry.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n"),
        # init copies them to /dev.
        Entry.folder("etc/dev"),
        Entry.link("etc/dev/fd", "/proc/self/fd"),
        *(
            Entry.link(f"etc/dev/{name}", f"/proc/self/fd/{number}")
            for number, name in enumerate(("stdin", "stdout", "stderr"))
        ),
        # Empty without a network. Roots of tests have it mounted over theirs.
        Entry.file("etc/resolv.conf", b""),
        Entry.file("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n"),
        Entry.file("bin/busybox", busybox.read_bytes(), executable=True),
        *(Entry.link(f"bin/{applet}", "busybox") for applet in applets(busybox)),
        *(
            Entry.file(f"bin/{name}", content, executable=True)
            for name, content in programs.executables(image.arch, cache, progress).items()
        ),
        # Scripts name their interpreters by these paths.
        Entry.link("sbin", "bin"),
        Entry.folder("usr"),
        Entry.link("usr/bin", "../bin"),
        Entry.link("usr/sbin", "../bin"),
    ]
    if image.config is not None:
        # libbpf and other loaders read the values of __kconfig variables from this file.
        config = image.config.read_bytes()
        entries += [Entry.folder("boot"), Entry.file(f"boot/config-{image.release}", config)]
    if image.modules is not None:
        entries += modules.entries(image, image.modules, tuple(wanted))
    else:
        modules.require_built_in(image)
    return pack(entries)


def stored(
    image: KernelImage,
    busybox: Path,
    wanted: Sequence[str],
    cache: Cache,
    progress: Progress = silent,
    *,
    reread: bool = False,
) -> Path:
    """Return the file of the cache that holds what `build` gives.

    It is made if it is missing or damaged. Its name is the checksum of its content, which a record
    `<checksum of the ingredients>.json` has. `reread` checks the content even if the file's
    identity is the same as before.
    """
    folder = cache.root / "initramfs"
    known = folder / f"{_ingredients(image, busybox, wanted)}.json"
    path, damage = _find(folder, known, reread=reread)
    if path and not damage:
        return path
    with cache.lock("making-initramfs"):
        path, damage = _find(folder, known, reread=reread)
        if path and not damage:  # another process made it
            return path
        if damage:
            announce(progress, f"the initramfs {damage} in the cache; making it again")
        archive = build(image, busybox, wanted, cache, progress)
        path = folder / f"{sha256(archive)}.cpio"
        # Another kernel may have the same one. It is replaced in any case: this one is right.
        with cache.staging() as staging:
            (staging / "archive").write_bytes(archive)
            folder.mkdir(parents=True, exist_ok=True)
            (staging / "archive").replace(path)
        integrity.seal(path)
        records.write(known, {"archive": path.name})
    return path


def _find(folder: Path, known: Path, *, reread: bool = False) -> tuple[Path | None, str]:
    """Return the archive that a record names, and what is wrong with it or with the record."""
    name = (records.read(known) or {}).get("archive")
    if not isinstance(name, str):
        return None, "has a damaged record" if known.exists() else ""
    path = folder / name
    damage = integrity.damage(path, reread=reread)
    if not damage:
        integrity.mark_used(path)
        integrity.touch(known)
    return path, damage


def _ingredients(image: KernelImage, busybox: Path, wanted: Sequence[str]) -> str:
    """Return a checksum of all that `build` depends on, without reading the kernel's modules."""
    guest = resources.files("bpfmatrix") / "guest"
    program = busybox.stat()
    return sha256(
        repr(
            (
                # The store names a kernel's folder by its content.
                (image.folder.name, image.digest, tuple(wanted)),
                [(guest / name).read_bytes() for name in ("init", "fstab", "shrc", "core-to-host")],
                programs.digest(image.arch),
                (program.st_size, program.st_mtime_ns),
                [path.stat().st_mtime_ns for path in sorted(Path(__file__).parent.glob("*.py"))],
            )
        )
    )[:32]
